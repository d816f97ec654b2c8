"""Scale-decoupled distillation (SDD)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.precision import float32_products
from mmkdlayer.registry import MODELS

from .logits import target_classes
from .nkd_loss import NKDLoss
from .pooling import grid_means


@MODELS.register_module()
class SDDLoss(nn.Module):
    """The divergence of the logits, of cells of the last map at several scales.

    Both maps are average-pooled to grids of M x M cells, for each scale M, and each network's own
    classifier gives the logits of each cell; those of scale 1 are the network's. A cell is *consistent*
    with the image if the teacher is right about both or wrong about both, and *complementary* if it is
    right about one alone. The loss is the mean over all cells of all images and scales::

        D(student's cell, teacher's cell) * (beta where complementary, else 1)

    where D is ``tau^2 KL(teacher || student)`` at temperature tau, or NKD. From Wei et al., *Scale
    Decoupled Distillation*, CVPR 2024, section 3, L_SDD = D_con + beta D_com, with the mean in place of
    the sum, as in the authors' code (which, where 4 is a scale, pools the map to 4x4 cells first: the
    same unless 4 does not divide it).

    The authors' settings: beta=2; scales (1, 2) for ResNet-32x4 -> ResNet-8x4, (1, 2, 4) for pairs of
    different kinds; on CIFAR-100 loss_weight=0.9, tau=4 and cross entropy with 0.1.

    The classifiers' parameters are recorded: ``dict(type='Parameter', source='head.fc.weight')``. The
    student's classifier and features are trained; the teacher's are constants.

    The class of a soft label is that with the largest share. Half precision is computed in float32.
    Classes that no image has are as any others; with a single class every cell is consistent. A map
    smaller than a scale repeats its positions.

    Args:
        tau: Temperature of the divergence.
        scales: Cells of each grid, along each side; the first is 1, the whole image.
        beta: Weight of complementary cells.
        loss_weight: Weight of the loss.
        nkd: Arguments of an :class:`NKDLoss` in place of the divergence (SD-NKD): ``dict(gamma=1.5)``.

    Raises:
        ConfigError: The scales are no whole numbers from 1 on.
    """

    def __init__(
        self,
        tau: float = 4.0,
        scales: Sequence[int] = (1, 2, 4),
        beta: float = 2.0,
        loss_weight: float = 1.0,
        nkd: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        are_whole = all(isinstance(scale, int) and scale > 0 for scale in scales)
        if not are_whole or tuple(scales[:1]) != (1,):
            raise ConfigError(
                f'SDDLoss: scales must be whole numbers of which the first is 1, such as (1, 2, 4), '
                f'but got {scales!r}.'
            )
        self.tau, self.scales, self.beta = tau, tuple(scales), beta
        self.loss_weight = loss_weight
        self.nkd = None if nkd is None else NKDLoss(**nkd)

    def forward(
        self,
        feature_S: Tensor,
        feature_T: Tensor,
        weight_S: Tensor,
        weight_T: Tensor,
        gt_labels: Tensor,
        bias_S: Tensor | None = None,
        bias_T: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss.

        Args:
            feature_S: The student's last map before pooling, (N, D, H, W).
            feature_T: The teacher's, (N, D', H', W').
            weight_S: Weights of the student's linear classifier, (C, D).
            weight_T: Weights of the teacher's, (C, D').
            gt_labels: Class indices (N,) or class shares (N, C).
            bias_S: Of the student's classifier, (C,).
            bias_T: Of the teacher's classifier, (C,).

        Returns:
            A scalar, in float32 or better.

        Raises:
            ConfigError: The shapes do not fit.
            DataError: The labels do not fit.
        """
        student = self._cell_logits(feature_S, weight_S, bias_S)
        with torch.no_grad():
            teacher = self._cell_logits(feature_T, weight_T, bias_T)
        if student.shape != teacher.shape:
            raise ConfigError(
                f'SDDLoss: the student gives logits of {student.size(2)} classes for '
                f'{len(student)} images, the teacher of {teacher.size(2)} for {len(teacher)}.'
            )
        images, cells, classes = teacher.shape
        target = target_classes('SDDLoss', gt_labels, images, classes)[:, None].expand(-1, cells)
        is_right = teacher.argmax(2) == target
        is_complementary = is_right != is_right[:, :1]  # the first cell is the image
        divergence = self._divergence(
            student.flatten(0, 1), teacher.flatten(0, 1), target.flatten()
        )
        weight = 1 + (self.beta - 1) * is_complementary.flatten()
        return self.loss_weight * (weight * divergence).mean()

    def _divergence(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """D of each row of logits."""
        if self.nkd is not None:
            return self.nkd.per_image(student, teacher, target)
        ours, theirs = (student / self.tau).log_softmax(1), (teacher / self.tau).log_softmax(1)
        return self.tau**2 * (theirs.exp() * (theirs - ours)).sum(1)

    def _cell_logits(self, feature: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Logits of each cell of all grids, (N, cells, C)."""
        if feature.dim() != 4 or weight.dim() != 2 or weight.size(1) != feature.size(1):
            raise ConfigError(
                f'SDDLoss: expected a map (N, D, H, W) and the weights (C, D) of a linear classifier, '
                f'but got {tuple(feature.shape)} and {tuple(weight.shape)}. Record the last map before '
                'pooling, such as the output of "backbone.layer4", and the parameter "head.fc.weight".'
            )
        dtype = torch.promote_types(feature.dtype, torch.float32)
        feature, weight = feature.to(dtype), weight.to(dtype)
        cells = torch.cat([grid_means(feature, scale) for scale in self.scales], 2)
        with float32_products(feature.device):
            return F.linear(cells.transpose(1, 2), weight, None if bias is None else bias.to(dtype))
