"""The teacher's decisions over sub-classes, counted."""

from __future__ import annotations

import torch
from torch import Tensor

from .distributed import concat_over_ranks, sum_over_ranks

#: Bytes of the largest table that is counted and kept densely: that of 16,384 sub-classes.
DENSE_BYTES = 1 << 30
_ROWS = 256
# Cells that wait to be merged into the counts of a sparse table, at least.
_WAITING = 1 << 22
# In so many parts the ranks exchange the counts of a sparse table.
_PARTS = 16


def counts_for(size: int) -> DenseCounts | SparseCounts:
    """The counts of a table of ``size`` sub-classes, sparse where a dense one would be too large."""
    return DenseCounts(size) if 4 * size**2 <= DENSE_BYTES else SparseCounts(size)


class DenseCounts:
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
        """Turn the counts into the decision table S (docs/method.md, section 2b, step 4).

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


class SparseCounts:
    """As :class:`DenseCounts`, for tables of which only the cells that occur can be held.

    12 bytes a cell between two merges, up to 80 in a merge and in :meth:`to_decisions`; there are no
    more cells than positions.

    Args:
        size: C*M.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._cells = torch.zeros(0, dtype=torch.int64)
        self._counts = torch.zeros(0, dtype=torch.int32)
        self._waiting: list[Tensor] = []

    def add(self, own: Tensor, nearest: Tensor) -> None:
        """Count positions by their sub-class (n,) and the prototype nearest to them (n,), int64."""
        self._waiting.append((own * self.size + nearest).cpu())
        # Growing with the counts, so that merging costs a constant number of times each cell.
        if sum(map(len, self._waiting)) >= max(_WAITING, len(self._cells) // 2):
            self._merge()

    def _merge(self) -> None:
        new = torch.cat([*self._waiting, self._cells[:0]])
        self._waiting = []
        cells, numbers = new.unique(return_counts=True)
        self._cells, self._counts = _sum_by_cell(
            torch.cat([self._cells, cells]), torch.cat([self._counts, numbers.int()])
        )

    def merge_ranks(self) -> None:
        """Make the counts those of all ranks, on every rank."""
        self._merge()
        step = -(-(self.size**2) // _PARTS)
        parts = []
        for start in range(0, self.size**2, step):
            ends = torch.tensor([start, start + step])
            first, last = torch.searchsorted(self._cells, ends).tolist()
            cells = concat_over_ranks(self._cells[first:last])
            parts.append(_sum_by_cell(cells, concat_over_ranks(self._counts[first:last])))
        self._cells, self._counts = (torch.cat(tensors) for tensors in zip(*parts))

    def to_decisions(self, nearest_of_empty: Tensor) -> Tensor:
        """Turn the counts into the decision table, as :meth:`DenseCounts.to_decisions`.

        Returns:
            (C*M, C*M), float32, a coalesced sparse tensor; every row sums to 1.
        """
        rows = self._cells.div(self.size, rounding_mode='floor')
        totals = torch.zeros(self.size, dtype=torch.float64)
        totals.index_add_(0, rows, self._counts.double())
        values = (self._counts.double() / totals[rows]).float()
        empty = (totals == 0).nonzero()[:, 0]
        cells = torch.cat([self._cells, empty * self.size + nearest_of_empty[empty]])
        values = torch.cat([values, torch.ones(len(empty))])
        cells, order = cells.sort()
        rows = cells.div(self.size, rounding_mode='floor')
        return torch.sparse_coo_tensor(
            torch.stack([rows, cells - rows * self.size]),
            values[order],
            (self.size, self.size),
            is_coalesced=True,
            check_invariants=False,
        )


def _sum_by_cell(cells: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Sorted distinct cells and the sum of the counts of each."""
    cells, order = cells.sort()
    distinct, place = torch.unique_consecutive(cells, return_inverse=True)
    sums = torch.zeros(len(distinct), dtype=torch.int32)
    return distinct, sums.index_add_(0, place, counts[order])
