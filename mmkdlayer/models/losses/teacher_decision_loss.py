"""KL divergence from the teacher's decisions to the student's scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.decisions import TeacherDecision, build_decision
from mmkdlayer.models.decisions.row_targets import RowTargets
from mmkdlayer.models.decisions.sizes import resize_to
from mmkdlayer.models.ops import (
    MKLDNN_MIN_BATCH,
    check_implementation,
    full_precision,
    maps_of,
    refuse_second_derivative,
    require_triton,
    rows_of,
)
from mmkdlayer.registry import MODELS

#: Scores that are worked on together: 8 MiB in float32 on a CPU, whose cache they stay in.
CHUNK = 1 << 21
DEVICE_CHUNK = 1 << 24


def _chunks(rows: Tensor) -> list[slice]:
    """The positions in runs that are worked on together."""
    chunk = CHUNK if rows.device.type == 'cpu' else DEVICE_CHUNK
    step, count = max(1, chunk // rows.size(1)), rows.size(0)
    step = step if step < MKLDNN_MIN_BATCH else step // MKLDNN_MIN_BATCH * MKLDNN_MIN_BATCH
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


class _DecisionDivergence(torch.autograd.Function):
    """``mean_i KL(p(i) || softmax(score(i)))``, chunk by chunk over the positions.

    Kept are the scores and what the targets are made of; the backward pass makes softmax(score) - p
    from them, the one tensor of the scores' size that the loss ever forms.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, targets: RowTargets) -> Tensor:
        rows = rows_of(scores)
        dtype = torch.promote_types(rows.dtype, torch.float32)
        total = rows.new_zeros((), dtype=dtype)
        with full_precision(scores):
            for part in _chunks(rows):
                total += targets.divergence(part, rows[part].to(dtype).log_softmax(1))
        ctx.targets = targets
        ctx.save_for_backward(scores)
        return total / rows.size(0)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        refuse_second_derivative("TeacherDecisionLoss (implementation='memory_efficient')")
        (scores,) = ctx.saved_tensors
        rows = rows_of(scores)
        dtype = torch.promote_types(rows.dtype, torch.float32)
        d_rows = torch.empty_like(rows)
        with full_precision(scores):
            factor = grad_outputs[0].to(dtype) / rows.size(0)
            for part in _chunks(rows):
                # In place where the scores have full precision.
                grad = d_rows[part] if rows.dtype == dtype else rows[part].to(dtype)
                torch.softmax(rows[part].to(dtype), 1, out=grad)
                ctx.targets.subtract_from(part, grad)
                torch.mul(grad, factor, out=grad)
                if rows.dtype != dtype:
                    d_rows[part] = grad
        return maps_of(d_rows, scores), None


@MODELS.register_module()
class TeacherDecisionLoss(nn.Module):
    """Makes the student's scores agree with what the teacher decides at every position.

    ``loss_weight * mean over N*H*W positions of KL(p_T || softmax over templates of the scores)``
    (letKD, BMVC 2023, section 3.2). No gradient reaches the teacher.

    Args:
        decision: A :class:`TeacherDecision` or its config.
        loss_weight: Weight of the loss.
        implementation: 'memory_efficient' keeps the scores alone for the backward pass and forms one
            tensor of their size there; 'reference' is the plain formula, with dense targets. Both give
            the same numbers. 'triton' is 'memory_efficient' with Triton kernels, on CUDA devices, for
            hard labels with a dense table and for centroids.

    Raises:
        ConfigError: The decision is none, or the implementation is not known.
    """

    def __init__(
        self,
        decision: dict | TeacherDecision,
        loss_weight: float = 1.0,
        implementation: str = 'memory_efficient',
    ) -> None:
        super().__init__()
        check_implementation(type(self).__name__, implementation)
        self.implementation = implementation
        self.decision = build_decision(decision, 'TeacherDecisionLoss: decision')
        self.loss_weight = float(loss_weight)

    def forward(
        self, scores: Tensor, teacher_feature: Tensor, gt_label: Tensor | None = None
    ) -> Tensor:
        """Compute the loss.

        Args:
            scores: Raw scores of the KD layer (the output of its ``templates``), (N, K, H, W).
            teacher_feature: Teacher features (N, D, H', W'); larger maps are average-pooled to (H, W),
                in smaller ones the nearest position decides.
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
            feature = resize_to(teacher_feature, (scores.size(2), scores.size(3)))
        if feature.size(0) != scores.size(0):
            raise ConfigError(
                f'TeacherDecisionLoss: the scores are of {scores.size(0)} images and the teacher '
                f'features of {feature.size(0)}.'
            )
        self.decision.check_features(feature)
        gt_label = self.decision.check_label(gt_label, scores.size(0))
        with full_precision(feature):
            feature = feature.to(torch.promote_types(feature.dtype, scores.dtype))
            feature = feature.detach().to(torch.promote_types(feature.dtype, torch.float32))
            if self.implementation != 'reference':
                loss = self._memory_efficient(scores, feature, gt_label)
            else:
                loss = self._by_formula(scores, self.decision.target(feature, gt_label))
        return self.loss_weight * loss

    @torch.compiler.disable  # it is in chunks already; not every torch can trace it
    def _memory_efficient(self, scores: Tensor, feature: Tensor, gt_label: Tensor | None) -> Tensor:
        """The divergence by the memory-efficient implementation."""
        with torch.no_grad():
            targets = self.decision.row_targets(feature, gt_label)
        # In the wider of the two precisions, as the plain formula.
        scores = scores.double() if feature.dtype == torch.float64 else scores
        if self.implementation == 'triton':
            require_triton(type(self).__name__, scores.device.type)
            if targets.matrix_kind is not None:
                from .triton_kernels import FusedDivergence

                return FusedDivergence.apply(scores, targets, _chunks(rows_of(scores)))
        return _DecisionDivergence.apply(scores, targets)

    @staticmethod
    def _by_formula(scores: Tensor, target: Tensor) -> Tensor:
        """The divergence with dense targets (N, K, H, W)."""
        log_probability = scores.to(target.dtype).log_softmax(1)
        divergence = torch.special.xlogy(target, target) - target * log_probability
        return divergence.sum(1).mean()

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
