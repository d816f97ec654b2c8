"""From stored projected features and centers to prototypes and the decision table."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .distributed import concat_over_ranks, errors_on_all_ranks, first_rank_decides, sum_over_ranks
from .nearest import DIRECT, ExactCenterSearch
from .numerics import count_, exact_float32
from .progress import stage
from .projected_features import STEP, ProjectedFeatures

#: Bytes of the largest table that is counted and kept densely: that of 16,384 sub-classes.
DENSE_BYTES = 1 << 30
_ROWS = 256
# Cells that wait to be merged into the counts of a sparse table, at least.
_WAITING = 1 << 22
# In so many parts the ranks exchange the counts of a sparse table.
_PARTS = 16


def fit_prototypes(features: ProjectedFeatures, centers: Tensor) -> Tensor:
    """Mean z (C*M, L), float32, of each sub-class on all ranks (docs/method.md, section 2b, step 3).

    ``features`` are those of this rank, ``centers`` (C*M, L), float32, where to calculate. The sums
    are exact, see :class:`ProjectedFeatures`. A sub-class without positions gets its center.
    """
    sums = torch.zeros_like(centers, dtype=torch.float64)
    counts = torch.zeros(len(sums), dtype=torch.int64, device=sums.device)
    with errors_on_all_ranks(), exact_float32(centers.device):
        for offsets, _, subclasses in _blocks(features, centers, 'prototypes'):
            sums.index_add_(0, subclasses, offsets.double() * STEP)
            count_(counts, subclasses)
    sum_over_ranks(sums)
    sum_over_ranks(counts)
    class_means = features.means.repeat_interleave(len(centers) // len(features.means), 0)
    means = class_means + sums / counts.clamp(min=1)[:, None]
    return torch.where(counts[:, None] > 0, means.float(), centers)


def fit_decisions(
    features: ProjectedFeatures, centers: Tensor, prototypes: Tensor, present: Tensor | None = None
) -> Tensor:
    """Share of sub-class a that is nearest to prototype b (docs/method.md, section 2b, step 4).

    The counts are exactly those of float64 distances. ``features`` are those of this rank, ``centers``
    and ``prototypes`` (C*M, L), float32, where to calculate. The sub-classes of a class that is not
    ``present`` (C,), bool, are nobody's nearest, and each of them decides for itself.

    Returns:
        As :meth:`DenseCounts.to_decisions`; sparse where that would be too large.
    """
    counts = counts_for(len(prototypes))
    with errors_on_all_ranks(), exact_float32(centers.device):
        used = torch.ones(len(prototypes), dtype=torch.bool, device=centers.device)
        if present is not None:
            used = present.to(centers.device).repeat_interleave(len(prototypes) // len(present))
        places = used.nonzero()[:, 0]
        search = ExactCenterSearch(prototypes[places])
        for _, points, subclasses in _blocks(features, centers, 'decision table'):
            counts.add(subclasses, places[search.find(points)])
        own = torch.arange(len(used), device=centers.device)
        nearest_of_empty = torch.where(used, places[search.find(centers.double())], own).cpu()
    return counts.to_decisions(first_rank_decides(nearest_of_empty))


def _blocks(
    features: ProjectedFeatures, centers: Tensor, desc: str
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of n positions at a time: stored offsets (n, L); z (n, L), float64; own sub-classes (n,).

    A sub-class is the nearest center among those of the own class, by float64 distances.
    """
    own_centers = centers.double().unflatten(0, (len(features.means), -1))
    with stage(desc, len(features)) as bar:
        for offsets, labels in features.blocks():
            points = offsets.double() * STEP + features.means[labels][:, None]
            nearest = torch.cdist(points, own_centers[labels], compute_mode=DIRECT).argmin(2)
            subclasses = nearest + own_centers.shape[1] * labels[:, None]
            yield offsets.flatten(0, 1), points.flatten(0, 1), subclasses.flatten()
            bar.update(1)


def counts_for(size: int) -> DenseCounts | SparseCounts:
    """The counts of a table of ``size`` sub-classes, sparse where a dense one would be too large."""
    return DenseCounts(size) if 4 * size**2 <= DENSE_BYTES else SparseCounts(size)


class DenseCounts:
    """Counts how often a position of sub-class a is nearest to prototype b, of ``size`` = C*M each.

    The counts are int32, as large as the table they become: 256 MB for 8,000 sub-classes.
    """

    def __init__(self, size: int) -> None:
        self.counts = torch.zeros(size, size, dtype=torch.int32)

    def add(self, own: Tensor, nearest: Tensor) -> None:
        """Count positions by their sub-class (n,) and the prototype nearest to them (n,), int64."""
        cells = (own * len(self.counts) + nearest).cpu()
        ones = torch.ones(len(cells), dtype=torch.int32)
        self.counts.view(-1).scatter_add_(0, cells, ones)

    def to_decisions(self, nearest_of_empty: Tensor) -> Tensor:
        """Turn the counts of all ranks into the decision table S (docs/method.md, section 2b, step 4).

        Written over the counts, so that there are never two tables: this object is used up. The row
        of a sub-class without positions decides with certainty for its ``nearest_of_empty``, (C*M,).

        Returns:
            (C*M, C*M), float32, on every rank; every row sums to 1.
        """
        sum_over_ranks(self.counts)
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
    """

    def __init__(self, size: int) -> None:
        self.size = size
        # By cell: one dimension of indices instead of two.
        self._counts = self._by_cell(torch.zeros(0, dtype=torch.int64))
        self._waiting: list[Tensor] = []

    def _by_cell(self, cells: Tensor, counts: Tensor | None = None) -> Tensor:
        """The sum of the counts (1 each by default) of every cell, coalesced."""
        counts = torch.ones(len(cells), dtype=torch.int32) if counts is None else counts
        size = (self.size**2,)
        return torch.sparse_coo_tensor(cells[None], counts, size, check_invariants=False).coalesce()

    def add(self, own: Tensor, nearest: Tensor) -> None:
        """Count positions, as :meth:`DenseCounts.add`."""
        self._waiting.append((own * self.size + nearest).cpu())
        # Growing with the counts, so that merging costs a constant number of times each cell.
        if sum(map(len, self._waiting)) >= max(_WAITING, self._counts._nnz() // 2):
            self._merge()

    def _merge(self) -> None:
        if self._waiting:
            new, self._waiting = torch.cat(self._waiting), []
            self._counts = (self._counts + self._by_cell(new)).coalesce()

    def _merge_ranks(self) -> tuple[Tensor, Tensor]:
        """Cells of all ranks, sorted, and their counts: some at a time."""
        self._merge()
        own, counts = self._counts.indices()[0], self._counts.values()
        ends = torch.arange(_PARTS + 1) * -(-(self.size**2) // _PARTS)
        places = torch.searchsorted(own, ends).tolist()
        parts = []
        for first, last in zip(places, places[1:]):
            cells = concat_over_ranks(own[first:last])
            part = self._by_cell(cells, concat_over_ranks(counts[first:last]))
            parts.append((part.indices()[0], part.values()))
        cells, counts = (torch.cat(tensors) for tensors in zip(*parts))
        return cells, counts

    def to_decisions(self, nearest_of_empty: Tensor) -> Tensor:
        """As :meth:`DenseCounts.to_decisions`, but a coalesced sparse tensor."""
        cells, counts = self._merge_ranks()
        rows = cells.div(self.size, rounding_mode='floor')
        totals = torch.zeros(self.size, dtype=torch.float64)
        totals.index_add_(0, rows, counts.double())
        values = (counts.double() / totals[rows]).float()
        empty = (totals == 0).nonzero()[:, 0]
        cells = torch.cat([cells, empty * self.size + nearest_of_empty[empty]])
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
