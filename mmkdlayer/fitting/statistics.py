"""Sufficient statistics of labelled features for a discriminant analysis, in one streamed pass."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .distributed import sum_over_ranks
from .numerics import rows_per_chunk


class ClassStatistics:
    """Counts and sums of each class and the scatter of all positions, accumulated in float64.

    The scatter is kept about the running mean and partial scatters are merged with the pairwise
    update of Chan, Golub and LeVeque (1979), so that a mean far from zero costs no precision.

    Attributes:
        counts: (C,), int64, positions of each class.
        sums: (C, D), float64.
        mean: (D,), float64, of all positions.
        scatter: (D, D), float64, sum of (x - mean)(x - mean)^T over all positions.
    """

    def __init__(self, num_classes: int, channels: int, device: torch.device) -> None:
        double = torch.zeros(0, dtype=torch.float64, device=device)
        self.counts = torch.zeros(num_classes, dtype=torch.int64, device=device)
        self.sums = double.new_zeros(num_classes, channels)
        self.mean = double.new_zeros(channels)
        self.scatter = double.new_zeros(channels, channels)
        self._number = 0

    def update(self, features: Tensor, labels: Tensor) -> None:
        """Add the positions of a batch.

        Args:
            features: (B, P, D), float32.
            labels: (B,), int64, in [0, C).
        """
        positions, channels = features.shape[1:]
        step = rows_per_chunk(positions * channels, features.device)
        for start in range(0, len(features), step):
            part = features[start : start + step].double()
            own = labels[start : start + step]
            self.sums.index_add_(0, own, part.sum(1))
            self.counts += positions * torch.bincount(own, minlength=len(self.counts))
            rows = part.view(-1, channels)
            mean = rows.mean(0)
            rows -= mean
            self._merge(len(rows), mean, rows.t() @ rows)

    def _merge(self, number: int, mean: Tensor, scatter: Tensor) -> None:
        total = self._number + number
        shift = mean - self.mean
        self.scatter += scatter
        self.scatter.addr_(shift, shift, alpha=self._number * number / total)
        self.mean += shift * (number / total)
        self._number = total

    def state(self) -> dict[str, Tensor]:
        """All that the statistics hold so far, as tensors."""
        number = torch.tensor(self._number)
        return dict(
            counts=self.counts, sums=self.sums, mean=self.mean, scatter=self.scatter, number=number
        )

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` gave."""
        for name in ('counts', 'sums', 'mean', 'scatter'):
            getattr(self, name).copy_(state[name])
        self._number = int(state['number'])

    def merge_ranks(self) -> None:
        """Make the statistics those of all ranks, on every rank."""
        number = torch.tensor([self._number], dtype=torch.int64, device=self.mean.device)
        total = max(1, int(sum_over_ranks(number)))
        mean = sum_over_ranks(self.mean * (self._number / total))
        shift = self.mean - mean
        self.scatter.addr_(shift, shift, alpha=self._number)
        self.mean, self._number = mean, total
        for tensor in (self.scatter, self.sums, self.counts):
            sum_over_ranks(tensor)

    def means(self) -> Tensor:
        """The mean of each class, (C, D); every class must have positions."""
        return self.sums / self.counts[:, None]

    def within_scatter(self) -> Tensor:
        """Scatter of the positions about the mean of their own class, (D, D)."""
        offsets = self.means() - self.mean
        return self.scatter - (offsets * self.counts[:, None]).t() @ offsets
