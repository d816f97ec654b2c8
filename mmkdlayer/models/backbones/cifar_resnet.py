"""ResNets for small images: depth 6n + 2, three stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmpretrain.models.backbones import ResNet_CIFAR
from mmpretrain.models.backbones.resnet import BasicBlock
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.registry import MODELS

SHORTCUTS = ('conv', 'pad')


class PaddedShortcut(nn.Module):
    """Shortcut without parameters: skip positions, append zero channels.

    Option A of He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, at least ``in_channels``.
        stride: Every ``stride``-th row and column is kept.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.extra_channels = out_channels - in_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, ceil(H / stride), ceil(W / stride))."""
        kept = x[:, :, :: self.stride, :: self.stride]
        return F.pad(kept, (0, 0, 0, 0, 0, self.extra_channels))


@MODELS.register_module()
class CifarResNet(ResNet_CIFAR):
    """ResNet-20, 32, 56, 110, ... for small images, and their 4 times wider variants.

    He et al., CVPR 2016, section 4.2: a 3x3 stem and three stages of basic blocks with strides 1,
    2, 2. KD layers go after ``layer3.0`` (inter) and ``layer3`` (penult).

    Args:
        depth: 6n + 2, for n blocks a stage: 8, 14, 20, 32, 44, 56, 110, ...
        stem_channels: Channels of the stem; 32 in ResNet-8x4 and 32x4.
        base_channels: Channels of the first stage, doubled by each further stage; 64 in ResNet-8x4
            and 32x4.
        shortcut: Where the shape changes, 'conv' for a 1x1 convolution and BN, as published
            teachers have it, or 'pad' for He's option A, without parameters.
        out_indices: Stages (0 to 2) whose maps are returned.
        zero_init_residual: Whether each block starts as the identity. The literature's networks
            don't, unlike mmpretrain's.
        **kwargs: ``in_channels``, ``frozen_stages``, ``norm_cfg``, ``norm_eval``, ``with_cp``,
            ``init_cfg``, ... of mmpretrain's ResNet_CIFAR.

    Raises:
        ConfigError: The depth is not 6n + 2, or the shortcut is unknown.
    """

    arch_settings = {6 * n + 2: (BasicBlock, (n, n, n)) for n in range(1, 201)}
    depths = (
        '6n + 2 (8, 14, 20, 32, 44, 56, 110, ...; for ResNet-18, 34 or 50 on small images use '
        'mmpretrain.ResNet_CIFAR)'
    )

    def __init__(
        self,
        depth: int,
        stem_channels: int = 16,
        base_channels: int = 16,
        shortcut: str = 'conv',
        out_indices: Sequence[int] = (2,),
        zero_init_residual: bool = False,
        **kwargs: Any,
    ) -> None:
        if depth not in self.arch_settings:
            raise ConfigError(
                f'{type(self).__name__}: depth must be {self.depths}, but got {depth!r}.'
            )
        if shortcut not in SHORTCUTS:
            raise ConfigError(
                f'CifarResNet: shortcut must be one of {SHORTCUTS}, got {shortcut!r}.'
            )
        super().__init__(
            depth,
            stem_channels=stem_channels,
            base_channels=base_channels,
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=out_indices,
            zero_init_residual=zero_init_residual,
            **kwargs,
        )
        if shortcut == 'pad':
            for name in self.res_layers:
                block = getattr(self, name)[0]
                if block.downsample is not None:
                    block.downsample = PaddedShortcut(
                        block.in_channels, block.out_channels, block.stride
                    )
