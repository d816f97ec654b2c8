"""Fusion of a student's stages for knowledge review (ReviewKD)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.registry import MODELS


@MODELS.register_module()
class ReviewKDConnector(nn.Module):
    """Fuses each stage of the student with what was fused of all deeper ones.

    Stages are taken from deep to shallow; the first is the pooled last map. A stage's map goes through a
    1x1 convolution and BN to ``mid_channels``; the fusion of the stage below, resized to it, is added by
    two attention maps, sigmoids of a 1x1 convolution of both; a 3x3 convolution and BN gives the
    channels of the teacher's stage. From Chen et al., *Distilling Knowledge via Knowledge Review*, CVPR
    2021, sections 3.2 and 3.3 and figure 3 (ABF). The authors read maps before a stage's last ReLU;
    here they are what the network returns.

    It reads the output of a backbone that returns all stages (``out_indices=(0, 1, 2, 3)``), and
    belongs to :class:`ReviewKDLoss`. The authors' ``mid_channels`` are 512, or those of the student's
    last stage if that has fewer (ResNet-8x4: 256). BN of the pooled stage needs two images.

    Args:
        student_channels: Of each stage that the student's backbone returns, from shallow to deep.
        teacher_channels: Of each stage of the teacher's.
        mid_channels: Of the fused maps.

    Raises:
        ConfigError: The numbers of stages differ.
    """

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        mid_channels: int = 512,
    ) -> None:
        super().__init__()
        if len(student_channels) != len(teacher_channels) or not student_channels:
            raise ConfigError(
                'ReviewKDConnector: expected as many stages of the teacher as of the student, but got '
                f'student_channels={student_channels} and teacher_channels={teacher_channels}.'
            )
        ours = (*student_channels, student_channels[-1])
        theirs = (*teacher_channels, teacher_channels[-1])
        self.reduce = nn.ModuleList(_conv(channels, mid_channels, 1) for channels in ours)
        self.expand = nn.ModuleList(_conv(mid_channels, channels, 3) for channels in theirs)
        self.attention = nn.ModuleList(nn.Conv2d(2 * mid_channels, 2, 1) for _ in student_channels)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Fuse the stages.

        Args:
            features: The student's maps (N, C, H, W), from shallow to deep.

        Returns:
            For each stage, and for the pooled one at the end, a map with the teacher's channels.

        Raises:
            ConfigError: The number of stages is another.
        """
        if len(features) != len(self.attention):
            raise ConfigError(
                f'ReviewKDConnector: expected {len(self.attention)} stages, but the recorded output has '
                f'{len(features)}. Record the output of "backbone", and set its out_indices.'
            )
        fused = self.reduce[-1](features[-1].mean((2, 3), keepdim=True))
        outputs = [self.expand[-1](fused)]
        for stage in reversed(range(len(features))):
            own = self.reduce[stage](features[stage])
            deeper = F.interpolate(fused, own.shape[2:], mode='nearest')
            weights = self.attention[stage](torch.cat([own, deeper], 1)).sigmoid()
            fused = own * weights[:, :1] + deeper * weights[:, 1:]
            outputs.append(self.expand[stage](fused))
        return tuple(reversed(outputs))


def _conv(in_channels: int, out_channels: int, size: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))
