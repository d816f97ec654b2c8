"""KL divergence from the teacher's decisions to the student's scores."""

from __future__ import annotations

from typing import Any, Callable

import torch
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.decisions import TeacherDecision, build_decision
from mmkdlayer.models.decisions.row_targets import RowTargets
from mmkdlayer.models.decisions.sizes import resize_to
from mmkdlayer.models.ops import (
    MKLDNN_MIN_BATCH,
    check_implementation,
    maps_of,
    refuse_second_derivative,
    require_triton,
    rows_of,
    softmax,
    softmax_and_logs,
)
from mmkdlayer.precision import float32_products
from mmkdlayer.registry import MODELS

#: Scores that are worked on together: 4 MiB in float32 on a CPU, whose cache they stay in. On other
#: devices 128 MiB, or half of all if that is more, so few kernels are started for a batch of any size;
#: a quarter where there are more tensors of that size.
CHUNK = 1 << 20
DEVICE_CHUNK = 1 << 25
MOST_DEVICE_CHUNKS = 2


def _chunks(rows: Tensor, temporaries: int = 1) -> list[slice]:
    """The positions of scores (M, K) in runs that are worked on together.

    There are ``temporaries`` times as many tensors of the size of a run's scores as usual.
    """
    count, templates = rows.shape
    if rows.device.type == 'cpu':
        step = max(1, CHUNK // templates)
        step = step if step < MKLDNN_MIN_BATCH else step // MKLDNN_MIN_BATCH * MKLDNN_MIN_BATCH
    else:
        parts = temporaries * min(MOST_DEVICE_CHUNKS, -(-rows.numel() // DEVICE_CHUNK))
        step = -(-count // max(1, parts))
    return [slice(start, min(start + step, count)) for start in range(0, count, max(1, step))]


class _DecisionDivergence(torch.autograd.Function):
    """``mean_i KL(p(i) || softmax(score(i)))``, chunk by chunk over the positions.

    The gradient is softmax(score) - p, over the number of positions: the one tensor of the scores' size
    that the loss ever forms. It is made in the backward pass, from the scores and from what the targets
    are made of. Where making p is costly, and on a CPU, it is made in the forward pass already, from
    what is at hand there: as the backward passes of losses run first, the most memory is the same.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, targets: RowTargets) -> Tensor:
        rows = rows_of(scores)
        ctx.targets, ctx.d_rows = targets, None
        ctx.is_early = (
            ctx.needs_input_grad[0]
            and (targets.is_costly or rows.device.type == 'cpu')
            and rows.dtype in (torch.float32, torch.float64)
        )
        ctx.save_for_backward(scores)
        with float32_products(scores.device, targets.precision):
            if ctx.is_early:
                ctx.d_rows = torch.empty_like(rows)
            return _mean_divergence(rows, targets, ctx.d_rows)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        refuse_second_derivative("TeacherDecisionLoss (implementation='memory_efficient')")
        (scores,) = ctx.saved_tensors
        (factor,) = grad_outputs
        rows, targets = rows_of(scores), ctx.targets
        d_rows, ctx.d_rows = ctx.d_rows, None  # it becomes autograd's: a second pass makes another
        with float32_products(scores.device, targets.precision):
            if not ctx.is_early:
                d_rows = _gradient(rows, targets, factor / len(rows))
            else:
                if d_rows is None:
                    d_rows = torch.empty_like(rows)
                    _mean_divergence(rows, targets, d_rows)
                if factor.device.type != 'cpu' or float(factor) != 1:
                    d_rows.mul_(factor)
        return maps_of(d_rows, scores), None


def _mean_divergence(rows: Tensor, targets: RowTargets, d_rows: Tensor | None) -> Tensor:
    """The loss of scores (M, K); its gradient is written to a tensor like them, if there is one."""
    dtype = torch.promote_types(rows.dtype, torch.float32)
    total = rows.new_zeros((), dtype=dtype)
    for part in _chunks(rows, 1 if d_rows is None else 2):
        grad = None if d_rows is None else d_rows[part]
        if grad is None:
            total += targets.divergence(part, rows[part].to(dtype).log_softmax(1))
        else:  # which the scores have the precision of
            _, logs, offset = softmax_and_logs(rows[part], out=grad)
            total += targets.divergence(part, logs, offset, grad)
            grad.div_(len(rows))
    return total / len(rows)


def _gradient(rows: Tensor, targets: RowTargets, factor: Tensor) -> Tensor:
    """``(softmax(rows) - p) * factor``, (M, K)."""
    dtype = torch.promote_types(rows.dtype, torch.float32)
    d_rows, factor = torch.empty_like(rows), factor.to(dtype)
    for part in _chunks(rows):
        # In place where the scores have full precision.
        grad = d_rows[part] if rows.dtype == dtype else rows[part].to(dtype)
        softmax(rows[part].to(dtype), out=grad)
        targets.subtract_from(part, grad)
        grad.mul_(factor)
        if rows.dtype != dtype:
            d_rows[part] = grad
    return d_rows


class DecisionLoss(nn.Module):
    """What losses of a teacher's decisions share; arguments as of :class:`TeacherDecisionLoss`."""

    #: What is decided, as probabilities (N, K, H, W); arguments as of ``forward``.
    decide: Callable[..., Tensor]

    def __init__(
        self,
        decision: dict | TeacherDecision,
        loss_weight: float = 1.0,
        implementation: str = 'memory_efficient',
    ) -> None:
        super().__init__()
        check_implementation(type(self).__name__, implementation)
        self.implementation = implementation
        self.decision = build_decision(decision, f'{type(self).__name__}: decision')
        self.loss_weight = float(loss_weight)

    def check_scores(self, scores: Tensor) -> None:
        """Check the shape (N, K, H, W) against the decision, before anything is computed."""
        self.decision.require_fitted()
        templates = self.decision.num_templates
        if scores.dim() != 4 or scores.size(1) != templates:
            raise ConfigError(
                f'{type(self).__name__}: {type(self.decision).__name__} decides over K={templates} '
                f'templates, so it expects scores (N, K={templates}, H, W), but got '
                f'{tuple(scores.shape)}. Set num_templates of the KD layer to {templates}, or the '
                "decision's sizes to the layer's, and record the output of its `templates`."
            )

    def divergence(self, scores: Tensor, targets: RowTargets) -> Tensor:
        """The loss of scores (N, K, H, W), a scalar in float32 or better."""
        targets.precision = self.decision.precision
        if self.implementation == 'reference':
            loss = _by_formula(scores, targets.dense(scores, scores.size(1)))
        elif self.implementation == 'triton':
            loss = _by_triton(scores, targets, type(self).__name__)
        else:
            loss = _DecisionDivergence.apply(scores, targets)
        return loss if self.loss_weight == 1 else self.loss_weight * loss


@MODELS.register_module()
class TeacherDecisionLoss(DecisionLoss):
    """Makes the student's scores agree with what a teacher decides at every position.

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
        feature = feature.to(torch.promote_types(feature.dtype, scores.dtype))
        feature = feature.detach().to(torch.promote_types(feature.dtype, torch.float32))
        return self._compare(scores, feature, gt_label)

    @torch.compiler.disable  # it is in chunks already; not every torch can trace it
    def _compare(self, scores: Tensor, feature: Tensor, gt_label: Tensor | None) -> Tensor:
        with float32_products(feature.device, self.decision.precision):
            with torch.no_grad():
                targets = self.decision.row_targets(feature, gt_label)
            # In the wider of the two precisions.
            scores = scores.double() if feature.dtype == torch.float64 else scores
            return self.divergence(scores, targets)

    def decide(
        self, scores: Tensor, teacher_feature: Tensor, gt_label: Tensor | None = None
    ) -> Tensor:
        """What the teacher decides, as probabilities (N, K, H, W); arguments as of :meth:`forward`."""
        return self.decision.decide(teacher_feature, gt_label, (scores.size(2), scores.size(3)))


def _by_formula(scores: Tensor, target: Tensor) -> Tensor:
    """The divergence from dense targets (N, K, H, W)."""
    log_probability = scores.to(target.dtype).log_softmax(1)
    divergence = torch.special.xlogy(target, target) - target * log_probability
    return divergence.sum(1).mean()


def _by_triton(scores: Tensor, targets: RowTargets, owner: str) -> Tensor:
    """The divergence by Triton's kernels, where they know such targets."""
    require_triton(owner, scores.device.type)
    if targets.matrix_kind is None:
        return _DecisionDivergence.apply(scores, targets)
    from .triton_kernels import FusedDivergence

    return FusedDivergence.apply(scores, targets, _chunks(rows_of(scores)))
