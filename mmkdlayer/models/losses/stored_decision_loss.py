"""KL divergence from the teacher's stored decisions to the student's scores."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.decisions import TeacherDecision, build_decision
from mmkdlayer.models.decisions.row_targets import RowTargets
from mmkdlayer.models.decisions.table_targets import TableTargets
from mmkdlayer.models.decisions.top_targets import TopTargets
from mmkdlayer.models.ops import check_implementation, full_precision, maps_of
from mmkdlayer.registry import MODELS

from .teacher_decision_loss import by_formula, check_scores, memory_efficient


@MODELS.register_module()
class StoredDecisionLoss(nn.Module):
    """The loss of :class:`TeacherDecisionLoss`, of decisions that were stored instead of made now.

    Args:
        decision: A :class:`TeacherDecision` or its config, with the tables that the rows are of.
        loss_weight: Weight of the loss.
        implementation: As for :class:`TeacherDecisionLoss`.

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
        self.decision = build_decision(decision, 'StoredDecisionLoss: decision')
        self.loss_weight = float(loss_weight)

    def forward(self, scores: Tensor, stored: Mapping[str, Tensor] | None = None) -> Tensor:
        """Compute the loss.

        Args:
            scores: Raw scores of the KD layer, (N, K, H, W).
            stored: ``rows``, for a table of decisions its row at each position, (N, H, W); for centroids
                the most probable ones, (N, H, W, k), and ``probabilities``, theirs. The distiller
                gives it.

        Returns:
            A scalar, in float32 or better.

        Raises:
            UnfittedDecisionError: The decision has no tables.
            ConfigError: Shapes do not fit.
        """
        if stored is None:
            raise ConfigError(
                'StoredDecisionLoss needs stored decisions, but got none. Declare the layer in '
                'kd_layers of a KDLayerDistiller, decision=dict(..., stored=DIR), which hands them over.'
            )
        targets = self.row_targets(scores, stored)
        if self.implementation == 'reference':
            dtype = torch.promote_types(scores.dtype, torch.float32)
            loss = by_formula(scores.to(dtype), self.dense(targets, scores))
        else:
            loss = memory_efficient(scores, targets, self.implementation, type(self).__name__)
        return loss if self.loss_weight == 1 else self.loss_weight * loss

    def row_targets(self, scores: Tensor, stored: Mapping[str, Tensor]) -> RowTargets:
        """What is stored, as targets of the scores; arguments and errors of :meth:`forward`."""
        check_scores(scores, self.decision)
        rows = stored['rows']
        expected = (scores.size(0), scores.size(2), scores.size(3))
        if tuple(rows.shape[:3]) != expected:
            images, height, width = expected
            raise ConfigError(
                f'StoredDecisionLoss: the scores are of {images} images of {height}x{width} positions, '
                f'but the stored decisions of {rows.size(0)} of {"x".join(map(str, rows.shape[1:3]))}. '
                'Decisions are stored for one size of the map: store them for this student and its '
                'size of images, with "python -m mmkdlayer store_decisions".'
            )
        with torch.no_grad(), full_precision(scores, self.decision.precision):
            targets: RowTargets
            if 'probabilities' in stored:
                dtype = torch.promote_types(scores.dtype, torch.float32)
                known = stored['probabilities'].flatten(0, 2).to(dtype)
                targets = TopTargets(rows.flatten(0, 2), known, scores.size(1))
            else:
                table = self.decision.prepared_for(scores)
                targets = TableTargets(table['rows'], table['entropies'], rows.flatten())
        targets.precision = self.decision.precision
        return targets

    def decide(self, scores: Tensor, stored: Mapping[str, Tensor]) -> Tensor:
        """The stored decisions as probabilities (N, K, H, W)."""
        return self.dense(self.row_targets(scores, stored), scores)

    @staticmethod
    @torch.no_grad()
    def dense(targets: RowTargets, scores: Tensor) -> Tensor:
        """Targets as probabilities like scores (N, K, H, W), in float32 or better."""
        dtype = torch.promote_types(scores.dtype, torch.float32)
        count = scores.numel() // scores.size(1)
        rows = torch.zeros(count, scores.size(1), dtype=dtype, device=scores.device)
        targets.subtract_from(slice(0, count), rows)
        return maps_of(rows.neg_(), scores)
