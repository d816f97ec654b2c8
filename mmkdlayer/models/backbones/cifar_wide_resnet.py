"""Wide ResNets for small images: pre-activation blocks, depth 6n + 4."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch.utils.checkpoint as cp
from mmcv.cnn import build_conv_layer, build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmkdlayer.registry import MODELS

from .cifar_resnet import CifarResNet


class PreActBlock(BaseModule):
    """Pre-activation residual block: BN, ReLU, 3x3 convolution, twice.

    Where the number of channels changes, the first BN and ReLU feed both the branch and a bare 1x1
    convolution on the shortcut; elsewhere the shortcut takes the block's input as it is.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Stride of the first convolution and of the shortcut.
        conv_cfg: Config of the convolutions.
        norm_cfg: Config of the norms.
        with_cp: Whether to save memory by computing the block again in the backward pass.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        conv_cfg: dict | None,
        norm_cfg: dict,
        with_cp: bool,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.with_cp = with_cp
        self.bn1 = build_norm_layer(norm_cfg, in_channels)[1]
        self.conv1 = build_conv_layer(
            conv_cfg, in_channels, out_channels, 3, stride=stride, padding=1, bias=False
        )
        self.bn2 = build_norm_layer(norm_cfg, out_channels)[1]
        self.conv2 = build_conv_layer(
            conv_cfg, out_channels, out_channels, 3, padding=1, bias=False
        )
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if in_channels != out_channels:
            self.downsample = build_conv_layer(
                conv_cfg, in_channels, out_channels, 1, stride=stride, bias=False
            )

    def _forward(self, x: Tensor) -> Tensor:
        activated = self.relu(self.bn1(x))
        identity = x if self.downsample is None else self.downsample(activated)
        return identity + self.conv2(self.relu(self.bn2(self.conv1(activated))))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        if self.with_cp and x.requires_grad:
            return cp.checkpoint(self._forward, x, use_reentrant=False)
        return self._forward(x)


@MODELS.register_module()
class CifarWideResNet(CifarResNet):
    """WRN-d-k for small images, such as WRN-16-2, 40-1 and 40-2.

    Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016. The closing BN and ReLU are the
    last child of ``layer3``, so KD layers go after ``layer3.0`` (inter) and ``layer3`` (penult), as
    in :class:`CifarResNet`.

    Args:
        depth: d = 6n + 4, for n blocks a stage: 10, 16, 22, 28, 40, ...
        widen_factor: k; the stages have 16k, 32k and 64k channels.
        **kwargs: ``out_indices`` of :class:`CifarResNet` (the map of stage 2 is after the closing
            ReLU); ``in_channels``, ``frozen_stages``, ``conv_cfg``, ``norm_cfg``, ``norm_eval``,
            ``with_cp`` or ``init_cfg`` of mmpretrain's ResNet_CIFAR.

    Raises:
        ConfigError: The depth is not 6n + 4.
        TypeError: Any other option of mmpretrain's ResNet_CIFAR is given.
    """

    arch_settings = {6 * n + 4: (PreActBlock, (n, n, n)) for n in range(1, 201)}
    depths = '6n + 4 (10, 16, 22, 28, 40, ...)'

    def __init__(self, depth: int, widen_factor: int = 1, **kwargs: Any) -> None:
        super().__init__(
            depth,
            stem_channels=16,
            base_channels=16 * widen_factor,
            # Fixed, since this network's blocks and stem have no such options.
            zero_init_residual=False,
            expansion=1,
            style='pytorch',
            deep_stem=False,
            avg_down=False,
            drop_path_rate=0.0,
            **kwargs,
        )

    def _make_stem_layer(self, in_channels: int, stem_channels: int) -> None:
        super()._make_stem_layer(in_channels, stem_channels)
        # Pre-activation: the first block's BN and ReLU come after the bare convolution.
        setattr(self, self.norm1_name, nn.Identity())
        self.relu = nn.Identity()

    def make_res_layer(
        self, num_blocks: int, in_channels: int, out_channels: int, stride: int, **kwargs: Any
    ) -> nn.Sequential:
        """Build one stage; the last one ends with the network's closing BN and ReLU."""
        options = (self.conv_cfg, self.norm_cfg, self.with_cp)
        layer = nn.Sequential(PreActBlock(in_channels, out_channels, stride, *options))
        for _ in range(1, num_blocks):
            layer.append(PreActBlock(out_channels, out_channels, 1, *options))
        if len(self.res_layers) == self.num_stages - 1:
            norm = build_norm_layer(self.norm_cfg, out_channels)[1]
            final: Any = nn.Sequential(OrderedDict(bn=norm, relu=nn.ReLU(inplace=True)))
            final.out_channels = out_channels  # ResNet asks each stage's last child
            layer.add_module('final', final)
        return layer
