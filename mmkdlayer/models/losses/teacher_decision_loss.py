"""KL divergence from the teacher's decisions to the student's scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.autograd import refuse_second_derivative
from mmkdlayer.models.decisions import TeacherDecision
from mmkdlayer.models.decisions.base import pool_to
from mmkdlayer.models.precision import full_precision
from mmkdlayer.registry import MODELS

#: Numbers in one chunk of targets (positions times templates): 16 MiB in float32.
CHUNK = 1 << 22


class _DecisionDivergence(torch.autograd.Function):
    """``mean_i KL(p_T(i) || softmax(score(i)))``, image by image in chunks.

    Since sum_k p_k = 1 the divergence of a position is
    ``sum_k p_k log p_k - sum_k p_k score_k + logsumexp_k(score)``: neither a dense target nor a
    log-softmax copy outlives its chunk. The gradient, ``(softmax(score) - p) / positions``, is
    formed in the same pass and kept, because the target would have to be computed again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        scores: Tensor,
        feature: Tensor,
        gt_label: Tensor | None,
        decision: TeacherDecision,
    ) -> Tensor:
        dtype = torch.promote_types(scores.dtype, torch.float32)
        images = scores.size(0)
        positions = images * scores[0, 0].numel()
        step = max(1, CHUNK // max(1, scores[0].numel()))
        total = scores.new_zeros((), dtype=dtype)
        grad = torch.empty_like(scores) if ctx.needs_input_grad[0] else None
        with full_precision(scores):
            for start in range(0, images, step):
                part = slice(start, start + step)
                score = scores[part].to(dtype)
                label = None if gt_label is None else gt_label[part]
                target = decision.target(feature[part].to(dtype), label)
                partition = score.logsumexp(1, keepdim=True)
                total += partition.sum() - (target * score).sum()
                total += torch.special.xlogy(target, target).sum()
                if grad is not None:
                    grad[part] = (score - partition).exp_().sub_(target).div_(positions)
        ctx.grad = grad
        return total / positions

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple:
        refuse_second_derivative('TeacherDecisionLoss')
        grad = ctx.grad
        return grad * grad_outputs[0].to(grad.dtype), None, None, None


@MODELS.register_module()
class TeacherDecisionLoss(nn.Module):
    """Makes the student's scores agree with what the teacher decides at every position.

    ``loss_weight * mean over N*H*W positions of KL(p_T || softmax over templates of the scores)``
    (letKD, BMVC 2023, section 3.2). No gradient reaches the teacher.

    Args:
        decision: A :class:`TeacherDecision` or its config.
        loss_weight: Weight of the loss.
    """

    def __init__(self, decision: dict | TeacherDecision, loss_weight: float = 1.0) -> None:
        super().__init__()
        if isinstance(decision, dict):
            decision = MODELS.build(decision)
        if not isinstance(decision, TeacherDecision):
            raise ConfigError(
                'TeacherDecisionLoss: decision must be a TeacherDecision or its config, such as '
                'dict(type="mmkdlayer.CentroidDecision", num_centroids=4096), but got '
                f'{type(decision).__name__}.'
            )
        self.decision: TeacherDecision = decision
        self.loss_weight = float(loss_weight)

    def forward(
        self, scores: Tensor, teacher_feature: Tensor, gt_label: Tensor | None = None
    ) -> Tensor:
        """Compute the loss.

        Args:
            scores: Raw scores of the KD layer (the output of its ``templates``), (N, K, H, W).
            teacher_feature: Teacher features (N, D, H', W') with H' >= H and W' >= W; larger maps are
                average-pooled to (H, W).
            gt_label: Class indices (N,) or probabilities (N, C); needed by SubclassDecision.

        Returns:
            A scalar, in float32 or better.

        Raises:
            UnfittedDecisionError: The decision has no tables.
            ConfigError: Shapes do not fit.
            DataError: A label is out of range.
        """
        self.check_scores(scores)
        with torch.no_grad():
            feature = pool_to(teacher_feature, (scores.size(2), scores.size(3)))
        if feature.size(0) != scores.size(0):
            raise ConfigError(
                f'TeacherDecisionLoss: the scores are of {scores.size(0)} images and the teacher '
                f'features of {feature.size(0)}.'
            )
        self.decision.check_features(feature)
        gt_label = self.decision.check_label(gt_label, scores.size(0))
        loss = _DecisionDivergence.apply(scores, feature, gt_label, self.decision)
        return self.loss_weight * loss

    def check_scores(self, scores: Tensor) -> None:
        """Check the shape (N, K, H, W) against the decision, before anything is computed."""
        self.decision.require_fitted()
        templates = self.decision.num_templates
        if scores.dim() != 4 or scores.size(1) != templates:
            raise ConfigError(
                f'TeacherDecisionLoss: {type(self.decision).__name__} decides over K={templates} '
                f'templates, so it expects scores (N, K={templates}, H, W), but got '
                f'{tuple(scores.shape)}. Set num_templates of the KD layer to {templates}, or the '
                "decision's sizes to the layer's, and record the output of its `templates`."
            )
