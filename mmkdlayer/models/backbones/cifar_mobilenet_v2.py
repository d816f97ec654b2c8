"""MobileNetV2 for small images."""

from __future__ import annotations

from typing import Any

from mmcv.cnn import ConvModule
from mmpretrain.models.backbones import MobileNetV2
from torch import nn

from mmkdlayer.registry import MODELS


@MODELS.register_module()
class CifarMobileNetV2(MobileNetV2):
    """MobileNetV2 for small images, half width unless told otherwise.

    Sandler et al., "MobileNetV2", CVPR 2018, in the variant of the distillation literature: plain
    ReLU, widths cut to int(c * widen_factor) instead of rounded to multiples of 8, a pointwise
    convolution in the first block too, and strides 1, 1, 2, 2, 1, 2, 1 after a stem of stride 2. KD
    layers go after ``layer6.0`` (inter) and ``conv2`` (penult: the 1x1 head of 1280 channels, BN
    and ReLU).

    Args:
        widen_factor: Width multiplier.
        act_cfg: Config of the activations.
        **kwargs: ``out_indices``, ``frozen_stages``, ``norm_cfg``, ``norm_eval``, ``with_cp``,
            ``init_cfg``, ... of mmpretrain's MobileNetV2.
    """

    # expand_ratio, channels, num_blocks, stride; mmpretrain's table differs in the second stride.
    arch_settings = [
        [1, 16, 1, 1],
        [6, 24, 2, 1],
        [6, 32, 3, 2],
        [6, 64, 4, 2],
        [6, 96, 3, 1],
        [6, 160, 3, 2],
        [6, 320, 1, 1],
    ]

    def __init__(
        self, widen_factor: float = 0.5, act_cfg: dict | None = None, **kwargs: Any
    ) -> None:
        super().__init__(widen_factor=widen_factor, act_cfg=act_cfg or {'type': 'ReLU'}, **kwargs)
        # mmpretrain rounds every width to a multiple of 8: build anew what that touches.
        self.in_channels = int(32 * widen_factor)
        self.conv1 = ConvModule(3, self.in_channels, 3, stride=2, padding=1, **self._cfgs())
        for name, (expand_ratio, channels, num_blocks, stride) in zip(
            self.layers, self.arch_settings
        ):
            layer = self.make_layer(int(channels * widen_factor), num_blocks, stride, expand_ratio)
            setattr(self, name, layer)
        self.conv2 = ConvModule(self.in_channels, self.out_channel, 1, **self._cfgs())

    def make_layer(
        self, out_channels: int, num_blocks: int, stride: int, expand_ratio: int
    ) -> nn.Sequential:
        """Build one group of inverted residuals, each with a pointwise convolution in front."""
        in_channels = self.in_channels
        layer = super().make_layer(out_channels, num_blocks, stride, expand_ratio)
        if expand_ratio == 1:
            pointwise = ConvModule(in_channels, in_channels, 1, **self._cfgs())
            layer[0].conv = nn.Sequential(pointwise, *layer[0].conv)
        return layer

    def _cfgs(self) -> dict[str, dict | None]:
        return {'conv_cfg': self.conv_cfg, 'norm_cfg': self.norm_cfg, 'act_cfg': self.act_cfg}
