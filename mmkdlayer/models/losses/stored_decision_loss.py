"""KL divergence from the teacher's stored decisions to the student's scores."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.decisions.row_targets import RowTargets
from mmkdlayer.models.decisions.table_targets import TableTargets
from mmkdlayer.models.decisions.top_targets import TopTargets
from mmkdlayer.precision import float32_products
from mmkdlayer.registry import MODELS

from .teacher_decision_loss import DecisionLoss


@MODELS.register_module()
class StoredDecisionLoss(DecisionLoss):
    """The loss of :class:`TeacherDecisionLoss`, of decisions that were stored instead of made now.

    The arguments are those of that loss; the decision has the tables that the rows are of.
    """

    @torch.compiler.disable  # it is in chunks already; not every torch can trace it
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
        return self.divergence(scores, self.row_targets(scores, stored))

    def row_targets(self, scores: Tensor, stored: Mapping[str, Tensor]) -> RowTargets:
        """What is stored, as targets of the scores; arguments and errors of :meth:`forward`."""
        self.check_scores(scores)
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
        with torch.no_grad(), float32_products(scores.device, self.decision.precision):
            if 'probabilities' in stored:
                dtype = torch.promote_types(scores.dtype, torch.float32)
                known = stored['probabilities'].flatten(0, 2).to(dtype)
                return TopTargets(rows.flatten(0, 2), known, scores.size(1))
            table = self.decision.prepared_for(scores)
            return TableTargets(table['rows'], table['entropies'], rows.flatten())

    def decide(self, scores: Tensor, stored: Mapping[str, Tensor]) -> Tensor:
        """The stored decisions as probabilities (N, K, H, W)."""
        return self.row_targets(scores, stored).dense(scores, scores.size(1))
