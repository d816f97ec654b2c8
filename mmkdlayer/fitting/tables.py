"""The teacher's decisions over sub-classes, counted."""

from __future__ import annotations

import torch
from torch import Tensor

from .distributed import sum_over_ranks

_ROWS = 256


class DecisionCounts:
    """Counts how often a position of sub-class a is nearest to prototype b.

    The counts are int32, as large as the table they become: 256 MB for 8,000 sub-classes.

    Args:
        size: C*M.
    """

    def __init__(self, size: int) -> None:
        self.counts = torch.zeros(size, size, dtype=torch.int32)

    def add(self, own: Tensor, nearest: Tensor) -> None:
        """Count positions by their sub-class (n,) and the prototype nearest to them (n,), int64."""
        cells = (own * len(self.counts) + nearest).cpu()
        ones = torch.ones(len(cells), dtype=torch.int32)
        self.counts.view(-1).scatter_add_(0, cells, ones)

    def merge_ranks(self) -> None:
        """Make the counts those of all ranks, on every rank."""
        sum_over_ranks(self.counts)

    def to_decisions(self, nearest_of_empty: Tensor) -> Tensor:
        """Turn the counts into the decision table S (method, section 2b, step 4).

        Written over the counts, so that there are never two tables: this object is used up.

        Args:
            nearest_of_empty: (C*M,), int64, for every sub-class the prototype that its row decides
                for with certainty if no position belongs to it.

        Returns:
            (C*M, C*M), float32; every row sums to 1.
        """
        decisions = self.counts.view(torch.float32)
        for start in range(0, len(decisions), _ROWS):
            counts = self.counts[start : start + _ROWS].double()
            totals = counts.sum(1, keepdim=True)
            empty = (totals == 0).nonzero()[:, 0]
            counts[empty, nearest_of_empty[start + empty]] = 1.0
            decisions[start : start + _ROWS] = counts / totals.clamp(min=1)
        return decisions
