"""Soft assignment of a region to the centroids of the teacher's features."""

from __future__ import annotations

import math
import os
from typing import Any

import torch
from torch import Tensor

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.ops import (
    check_sizes,
    product,
    rows_of,
    softmax,
    softmax_and_logs,
)
from mmkdlayer.registry import MODELS

from .base import TeacherDecision
from .row_targets import RowTargets

#: Of a feature as far from the mean as the farthest centroid; a hundred times that is still finite.
LARGEST_LOGIT = 1e36


@MODELS.register_module()
class CentroidDecision(TeacherDecision):
    """``p_T(i) = softmax_k(-temperature * |f_i - rho_k|^2)`` over K centroids rho.

    Source: letKD (BMVC 2023), section 3.2, for the penultimate layer. The paper's pseudo code leaves
    the minus sign out; the minus is right.

    Table: ``centroids`` (K, D).

    Args:
        num_centroids: K.
        temperature: tau; larger is sharper.
        file: Decision file to load. None builds an unfitted decision.

    Raises:
        DecisionFileError: The file does not fit (see :meth:`load`).
    """

    table_names = ('centroids',)

    def __init__(
        self,
        num_centroids: int = 4096,
        temperature: float = 1.0,
        file: str | os.PathLike | None = None,
    ) -> None:
        check_sizes('CentroidDecision', num_centroids=num_centroids)
        if not isinstance(temperature, (int, float)) or not 0 < temperature < math.inf:
            raise ConfigError(
                f'CentroidDecision: temperature must be above 0 and finite, but got {temperature!r}.'
            )
        self.num_centroids = self.num_templates = num_centroids
        self.temperature = float(temperature)
        super().__init__(file)

    @classmethod
    def from_tables(cls, centroids: Tensor, temperature: float = 1.0) -> CentroidDecision:
        """A fitted decision from centroids (K, D).

        Raises:
            ConfigError: ``centroids`` is no finite matrix.
        """
        if centroids.dim() != 2:
            raise ConfigError(
                f'CentroidDecision: expected centroids (K, D), but got {tuple(centroids.shape)}.'
            )
        decision = cls(centroids.size(0), temperature)
        decision.set_tables(centroids=centroids)
        return decision

    @property
    def feature_channels(self) -> int:
        """D, channels of the teacher's features that the centroids were fitted on."""
        return self.centroids.size(1)

    def fit_options(self) -> dict[str, Any]:
        """The arguments that decide the tables; the temperature does not."""
        return dict(num_centroids=self.num_centroids)

    def options(self) -> dict[str, Any]:
        """The arguments that make an equal decision, for the header of its file."""
        return dict(self.fit_options(), temperature=self.temperature)

    def check_tables(self, tables: dict[str, Tensor]) -> None:
        """Expect ``centroids`` (K, D), finite and small enough for logits in float32."""
        table = tables.get('centroids')
        if set(tables) != {'centroids'} or table is None:
            raise ConfigError(
                f'CentroidDecision: expected the table "centroids", but found {sorted(tables)}.'
            )
        if table.dim() != 2 or table.size(0) != self.num_centroids:
            raise ConfigError(
                f'CentroidDecision: expected centroids (K={self.num_centroids}, D), but got '
                f'{tuple(table.shape)}.'
            )
        if not bool(torch.isfinite(table).all()):
            raise ConfigError('CentroidDecision: the centroids hold values that are not finite.')
        centroids = table.double()
        reach = self.temperature * float((centroids - centroids.mean(0)).square().sum(1).max())
        if reach > LARGEST_LOGIT:
            raise ConfigError(
                f'CentroidDecision: temperature {self.temperature:g} times the squared distance of a '
                f'centroid to their mean must be at most {LARGEST_LOGIT:g}, since float32 holds no '
                f"larger logits, but it is up to {reach:.3g}. The table is damaged, or the teacher's "
                'features are not normalised.'
            )

    def row_targets(self, feature: Tensor, gt_label: Tensor | None) -> SoftmaxTargets:
        """Targets of pooled features (N, D, H, W); the label is not used.

        Distances are taken from the code book's mean, because the expanded square loses precision
        when the features are far from the origin. ``|f|^2`` cancels in the softmax.
        """
        prepared = self.prepared_for(feature)
        rows = rows_of(feature) - prepared['mean']
        return SoftmaxTargets(rows, prepared['weight'], prepared['bias'])

    def prepare(self, tables: dict[str, Tensor]) -> dict[str, Tensor]:
        """The code book's mean, and what makes logits of rows from which it was subtracted."""
        centroids = tables['centroids']
        mean = centroids.mean(0)
        centred = centroids - mean
        return dict(
            mean=mean,
            weight=centred * (2 * self.temperature),
            bias=-self.temperature * centred.square().sum(1),
        )


class SoftmaxTargets(RowTargets):
    """``p = softmax(rows @ weight.T + bias)``.

    Args:
        rows: Shape (M, D).
        weight: Shape (K, D).
        bias: Shape (K,).
    """

    matrix_kind = 'logits'
    is_costly = True

    def __init__(self, rows: Tensor, weight: Tensor, bias: Tensor) -> None:
        self.rows, self.weight, self.bias = rows, weight, bias

    def _logits(self, rows: slice) -> Tensor:
        return product(self.rows[rows], self.weight, self.bias)

    def divergence(
        self, rows: slice, logs: Tensor, offset: Tensor | None = None, grad: Tensor | None = None
    ) -> Tensor:
        """See :class:`RowTargets`."""
        # The logits themselves may be of thousands, their sum over all rows beyond float32.
        logits = self._logits(rows)
        target, own_logs, own_offset = softmax_and_logs(logits, out=logits, bounded=True)
        if grad is not None:
            grad.sub_(target)
        each = own_logs.sub_(logs).mul_(target).sum(1, keepdim=True)
        if offset is not None:
            each += offset
        if own_offset is not None:
            each -= own_offset
        return each.sum()

    def matrix(self, rows: slice) -> tuple[Tensor, Tensor | None]:
        """See :class:`RowTargets`."""
        return self._logits(rows), None

    def subtract_from(self, rows: slice, grad: Tensor) -> None:
        """See :class:`RowTargets`."""
        grad.sub_(softmax(self._logits(rows)))
