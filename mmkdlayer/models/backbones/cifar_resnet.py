"""ResNets for small images: depth 6n + 2, three stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmpretrain.models.backbones import ResNet_CIFAR
from mmpretrain.models.backbones.resnet import BasicBlock

from mmkdlayer.errors import ConfigError
from mmkdlayer.registry import MODELS


@MODELS.register_module()
class CifarResNet(ResNet_CIFAR):
    """ResNet-20, 32, 56, 110, ... for small images, and their 4 times wider variants.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2: a 3x3 stem
    and three stages of basic blocks with strides 1, 2, 2. Where the shape changes, the shortcut is
    a 1x1 convolution and BN, as published teachers have it. KD layers go after ``layer3.0`` (inter)
    and ``layer3`` (penult).

    Args:
        depth: 6n + 2, for n blocks a stage: 8, 14, 20, 32, 44, 56, 110, ...
        stem_channels: Channels of the stem; 32 in ResNet-8x4 and 32x4.
        base_channels: Channels of the first stage, doubled by each further stage; 64 in ResNet-8x4
            and 32x4.
        out_indices: Stages (0 to 2) whose maps are returned.
        zero_init_residual: Whether each block starts as the identity. The literature's networks
            don't, unlike mmpretrain's.
        **kwargs: ``in_channels``, ``frozen_stages``, ``norm_cfg``, ``norm_eval``, ``with_cp``,
            ``init_cfg``, ... of mmpretrain's ResNet_CIFAR.

    Raises:
        ConfigError: The depth is not 6n + 2.
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
        out_indices: Sequence[int] = (2,),
        zero_init_residual: bool = False,
        **kwargs: Any,
    ) -> None:
        if depth not in self.arch_settings:
            raise ConfigError(
                f'{type(self).__name__}: depth must be {self.depths}, but got {depth!r}.'
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
