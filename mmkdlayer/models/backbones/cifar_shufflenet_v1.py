"""ShuffleNetV1 for small images."""

from __future__ import annotations

from typing import Any

import torch
import torch.utils.checkpoint as cp
from mmcv.cnn import ConvModule, build_activation_layer
from mmengine.model import BaseModule
from mmpretrain.models.backbones import ShuffleNetV1
from mmpretrain.models.utils import channel_shuffle
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.registry import MODELS

from .cifar_shufflenet import CifarShuffleNet


class CifarShuffleUnit(BaseModule):
    """ShuffleNet unit of the distillation literature.

    Against mmpretrain's unit: channels are shuffled before the depthwise convolution, which a ReLU
    follows; the bottleneck is a quarter of what the branch itself puts out; and the branch comes
    first where the two are concatenated.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        groups: Groups of the last 1x1 convolution.
        compress_groups: Groups of the first 1x1 convolution and of the shuffle.
        downsample: Whether to halve the map and concatenate branch and pooled input, instead of
            adding the input.
        with_cp: Whether to save memory by computing the unit again in the backward pass.
        **cfgs: ``conv_cfg``, ``norm_cfg`` and ``act_cfg`` of mmcv's ConvModule.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        groups: int,
        compress_groups: int,
        downsample: bool,
        with_cp: bool = False,
        **cfgs: Any,
    ) -> None:
        super().__init__()
        self.compress_groups = compress_groups
        self.downsample = downsample
        self.with_cp = with_cp
        branch_channels = out_channels - in_channels if downsample else out_channels
        mid_channels = branch_channels // 4
        stride = 2 if downsample else 1
        self.g_conv_1x1_compress = ConvModule(
            in_channels, mid_channels, 1, groups=compress_groups, **cfgs
        )
        self.depthwise_conv3x3_bn = ConvModule(
            mid_channels, mid_channels, 3, stride=stride, padding=1, groups=mid_channels, **cfgs
        )
        self.g_conv_1x1_expand = ConvModule(
            mid_channels, branch_channels, 1, groups=groups, **{**cfgs, 'act_cfg': None}
        )
        if downsample:
            self.avgpool = nn.AvgPool2d(kernel_size=3, stride=2, padding=1)
        self.act = build_activation_layer(cfgs['act_cfg'])

    def _forward(self, x: Tensor) -> Tensor:
        out = channel_shuffle(self.g_conv_1x1_compress(x), self.compress_groups)
        out = self.g_conv_1x1_expand(self.depthwise_conv3x3_bn(out))
        out = torch.cat((out, self.avgpool(x)), dim=1) if self.downsample else x + out
        return self.act(out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H, W), or half of H and W where it downsamples."""
        if self.with_cp and x.requires_grad:
            return cp.checkpoint(self._forward, x, use_reentrant=False)
        return self._forward(x)


@MODELS.register_module()
class CifarShuffleNetV1(CifarShuffleNet, ShuffleNetV1):
    """ShuffleNetV1 for small images: a 1x1 stem of 24 channels with stride 1, no max pooling.

    Zhang et al., "ShuffleNet", CVPR 2018, in the variant of the distillation literature. KD layers
    go after ``layers.2.0`` (inter) and ``layers.2`` (penult).

    Args:
        groups: Groups of the 1x1 convolutions.
        **kwargs: ``widen_factor``, ``out_indices``, ``frozen_stages``, ``norm_cfg``, ``norm_eval``,
            ``with_cp``, ``init_cfg``, ... of mmpretrain's ShuffleNetV1. Without ``init_cfg``
            weights are drawn as torch does, as in the literature.

    Raises:
        ConfigError: The groups do not divide the first bottleneck.
    """

    in_channels: int

    def __init__(self, groups: int = 3, **kwargs: Any) -> None:
        if groups not in (1, 2, 3):
            raise ConfigError(
                f'CifarShuffleNetV1: groups must be 1, 2 or 3, but got {groups!r}; others do not '
                'divide the first bottleneck of this variant.'
            )
        super().__init__(groups=groups, **kwargs)

    def make_layer(
        self, out_channels: int, num_blocks: int, first_block: bool = False
    ) -> nn.Sequential:
        """Build one stage of units; the first halves the map."""
        layer = nn.Sequential()
        for index in range(num_blocks):
            unit = CifarShuffleUnit(
                self.in_channels,
                out_channels,
                self.groups,
                # The very first 1x1 convolution has too few input channels to be grouped.
                compress_groups=1 if first_block and index == 0 else self.groups,
                downsample=index == 0,
                with_cp=self.with_cp,
                **self._cfgs(),
            )
            layer.append(unit)
            self.in_channels = out_channels
        return layer
