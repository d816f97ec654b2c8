"""Hierarchical context loss of knowledge review (ReviewKD)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.registry import MODELS

from .pooling import grid_means

#: Sides of the grids that maps are pooled to, beside the maps themselves.
LEVELS = (4, 2, 1)


@MODELS.register_module()
class ReviewKDLoss(nn.Module):
    """Mean squared error between fused maps of the student and the teacher's, at several scales.

    For each stage, the error of the maps counts 1, that of the maps pooled to 4x4, 2x2 and 1x1 cells
    1/2, 1/4 and 1/8 (grids as large as the map are left out), over the sum of these weights; stages are
    added. From Chen et al., *Distilling Knowledge via Knowledge Review*, CVPR 2021, section 3.3 (HCL);
    the weights are those of the authors' code. It is added to cross entropy with weight 1.

    The authors' weight is 5 for ResNet-32x4 -> ResNet-8x4 on CIFAR-100, warmed up linearly over 20
    epochs, and 1 for ImageNet.

    The student's maps come through a :class:`ReviewKDConnector`; one of another size than the teacher's
    is resized to it (nearest). Labels and classes play no part. Half precision is computed in float32.

    Args:
        loss_weight: Weight of the loss.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, features_S: Sequence[Tensor], features_T: Sequence[Tensor]) -> Tensor:
        """Compute the loss.

        Args:
            features_S: What the connector returns: a map for each stage, and the pooled one.
            features_T: The teacher's maps (N, C, H, W), from shallow to deep; no gradient reaches them.

        Returns:
            A scalar, in float32 or better.

        Raises:
            ConfigError: The numbers of stages or channels do not fit.
        """
        teacher = [feature.detach() for feature in features_T]
        teacher.append(teacher[-1].mean((2, 3), keepdim=True))
        ours, theirs = ([feature.size(1) for feature in x] for x in (features_S, teacher))
        if ours != theirs:
            raise ConfigError(
                f'ReviewKDLoss: the student has stages of {ours} channels (the pooled one at the end), '
                f"the teacher of {theirs}. Set the connector's teacher_channels, and out_indices of "
                "the teacher's backbone."
            )
        errors = [_context_error(s, t) for s, t in zip(features_S, teacher)]
        return self.loss_weight * torch.stack(errors).sum()


def _context_error(student: Tensor, teacher: Tensor) -> Tensor:
    """The weighted mean of one stage's errors."""
    dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
    student, teacher = student.to(dtype), teacher.to(dtype)
    if student.shape[2:] != teacher.shape[2:]:
        student = F.interpolate(student, teacher.shape[2:], mode='nearest')
    weight, total_weight, total = 1.0, 1.0, F.mse_loss(student, teacher)
    for level in LEVELS:
        if level < min(teacher.shape[2:]):
            weight /= 2
            total_weight += weight
            s, t = (grid_means(x, level) for x in (student, teacher))
            total = total + weight * F.mse_loss(s, t)
    return total / total_weight
