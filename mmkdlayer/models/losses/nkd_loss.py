"""Normalised knowledge distillation (NKD)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmkdlayer.registry import MODELS

from .logits import full_precision_logits, target_classes


@MODELS.register_module()
class NKDLoss(nn.Module):
    """The teacher's probability of the target class, and its distribution over all others, apart.

    With the teacher's probabilities T, the student's S, and an image's target class t::

        -T_t log S_t - gamma * tau^2 * sum over i != t of N(T^tau)_i log N(S^tau)_i

    where ``N(T^tau)`` is softmax(logits / tau) over the classes other than t alone, and the first term
    has no temperature; the mean over images is taken. From Yang et al., *From Knowledge Distillation to
    Self-Knowledge Distillation: A Unified Approach with Normalized Loss and Customized Soft Labels*,
    ICCV 2023, the equation of L_nkd. It is added to cross entropy with weight 1.

    The authors' settings: gamma=1.5, tau=1 for ImageNet (the defaults); gamma=3.5, tau=3 for
    CIFAR-100 in their code's ResNet-34 -> ResNet-18.

    The target of a soft label is its class with the largest share, as in the authors' code. Half
    precision is computed in float32. Classes that no image has, and probabilities of zero, are as any
    others; with a single class the loss is zero.

    Args:
        gamma: Weight of the other classes.
        tau: Temperature of the other classes.
        loss_weight: Weight of the loss.
    """

    def __init__(self, gamma: float = 1.5, tau: float = 1.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.gamma, self.tau, self.loss_weight = gamma, tau, loss_weight

    def forward(self, preds_S: Tensor, preds_T: Tensor, gt_labels: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            preds_S: Logits of the student, (N, C).
            preds_T: Logits of the teacher, (N, C); no gradient reaches them.
            gt_labels: Class indices (N,) or class shares (N, C).

        Returns:
            A scalar, in float32 or better.

        Raises:
            ConfigError: The shapes of the logits differ.
            DataError: The labels do not fit them.
        """
        name = type(self).__name__
        student, teacher = full_precision_logits(name, preds_S, preds_T.detach())
        target = target_classes(name, gt_labels, *student.shape)
        return self.per_image(student, teacher, target).mean()

    def per_image(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """The loss of each image, (N,), of logits (N, C) and classes (N,) that are checked already."""
        target = target[:, None]
        others = torch.arange(student.size(1) - 1, device=student.device)[None]
        others = others + (others >= target)  # every class but the target, (N, C - 1)

        of_target = teacher.softmax(1).gather(1, target) * student.log_softmax(1).gather(1, target)
        student, teacher = (x.gather(1, others) / self.tau for x in (student, teacher))
        of_others = (teacher.softmax(1) * student.log_softmax(1)).sum(1)
        return -self.loss_weight * (of_target[:, 0] + self.gamma * self.tau**2 * of_others)
