"""MobileNetV1: thirteen depthwise separable units."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkdlayer.errors import ConfigError
from mmkdlayer.registry import MODELS


@MODELS.register_module()
class MobileNetV1(BaseBackbone):
    """MobileNetV1 for ImageNet.

    Howard et al., "MobileNets", 2017: a 3x3 stem of stride 2 and 13 units of a 3x3 depthwise and a
    1x1 convolution, each with BN and ReLU. Units of one map size form a stage, so KD layers go
    after ``layer5.0`` (inter, the 12th unit) and ``layer5`` (penult, the 13th).

    Args:
        widen_factor: Width multiplier; widths are int(c * widen_factor).
        in_channels: Channels of the images.
        out_indices: Stages (0 to 4) whose maps are returned.
        frozen_stages: Stages 1 to this one (0 for the stem alone) are not trained; -1 trains all.
        conv_cfg: Config of the convolutions.
        norm_cfg: Config of the norms.
        act_cfg: Config of the activations.
        norm_eval: Whether the running statistics of the norms are kept as they are in training.
        init_cfg: Initialisation as in mmengine; None for that of mmpretrain's MobileNetV2.

    Raises:
        ConfigError: ``out_indices`` or ``frozen_stages`` name a stage that is not there.
    """

    # Channels of each unit's output; the first unit of every stage but the first has stride 2.
    arch_settings = ((64,), (128, 128), (256, 256), (512,) * 6, (1024, 1024))

    def __init__(
        self,
        widen_factor: float = 1.0,
        in_channels: int = 3,
        out_indices: Sequence[int] = (4,),
        frozen_stages: int = -1,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        norm_eval: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(
            init_cfg
            or [
                {'type': 'Kaiming', 'layer': ['Conv2d']},
                {'type': 'Constant', 'val': 1, 'layer': ['_BatchNorm', 'GroupNorm']},
            ]
        )
        if not set(out_indices) <= set(range(5)):
            raise ConfigError(
                f'MobileNetV1: out_indices must be within 0 and 4, but got {tuple(out_indices)}.'
            )
        if frozen_stages not in range(-1, 6):
            raise ConfigError(
                f'MobileNetV1: frozen_stages must be within -1 and 5, but got {frozen_stages}.'
            )
        self.out_indices = out_indices
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        cfg = {
            'conv_cfg': conv_cfg,
            'norm_cfg': norm_cfg or {'type': 'BN'},
            'act_cfg': act_cfg or {'type': 'ReLU'},
        }
        channels = int(32 * widen_factor)
        self.conv1 = ConvModule(in_channels, channels, 3, stride=2, padding=1, **cfg)
        self.layers = [f'layer{stage}' for stage in range(1, 6)]
        for name, widths in zip(self.layers, self.arch_settings):
            layer = nn.Sequential()
            for index, width in enumerate(widths):
                stride = 2 if name != 'layer1' and index == 0 else 1
                out_channels = int(width * widen_factor)
                layer.append(
                    DepthwiseSeparableConvModule(channels, out_channels, 3, stride, 1, **cfg)
                )
                channels = out_channels
            self.add_module(name, layer)
        self._freeze_stages()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images (N, 3, H, W) to the maps of the stages in ``out_indices``."""
        x = self.conv1(x)
        outs = []
        for index, name in enumerate(self.layers):
            x = getattr(self, name)(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def _freeze_stages(self) -> None:
        for name in ['conv1', *self.layers][: self.frozen_stages + 1]:
            getattr(self, name).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> MobileNetV1:
        """Set the mode, but keep frozen stages (and, with ``norm_eval``, norms) in eval mode."""
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self
