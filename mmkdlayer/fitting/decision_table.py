"""From stored projected features and centers to prototypes and the decision table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from .cache import ProjectionCache
from .distributed import errors_on_all_ranks, sum_over_ranks
from .nearest import ExactCenterSearch, nearest_own_center
from .numerics import full_precision
from .progress import Progress, stage
from .projection import STEP, ProjectedSpace
from .tables import counts_for


class StoredBlock(NamedTuple):
    """Positions of one block of the cache.

    Attributes:
        offsets: (n, L), int32, z less the mean of the class in steps of ``projection.STEP``.
        points: (n, L), float64, z.
        subclasses: (n,), int64, in [0, C*M): the nearest center among those of the own class.
    """

    offsets: Tensor
    points: Tensor
    subclasses: Tensor


class StoredPositions:
    """The positions that one rank has stored, to be gone through as often as needed.

    Args:
        cache: What the rank has stored.
        space: How it was stored.
        centers: (C*M, L), float32.
        device: Where to calculate.
        progress: See :class:`~mmkdlayer.fitting.progress.Progress`.
    """

    def __init__(
        self,
        cache: ProjectionCache,
        space: ProjectedSpace,
        centers: Tensor,
        device: torch.device,
        progress: Optional[Progress] = None,
    ) -> None:
        self._cache = cache
        self._progress = progress
        self.space = ProjectedSpace(*(tensor.to(device) for tensor in space))
        self.centers = centers.to(device)
        self.device = device
        self.num_subclasses = len(centers) // len(space.means)

    def blocks(self, desc: str) -> Iterator[StoredBlock]:
        """One block after the other."""
        own_centers = self.centers.double().unflatten(0, (-1, self.num_subclasses))
        with stage(self._progress, desc, len(self._cache)) as bar:
            for stored, own in self._cache.blocks():
                offsets, labels = stored.to(self.device), own.to(self.device)
                points = self.space.restore(offsets, labels)
                nearest = nearest_own_center(points, own_centers[labels])
                subclasses = nearest + self.num_subclasses * labels[:, None]
                yield StoredBlock(offsets.flatten(0, 1), points.flatten(0, 1), subclasses.flatten())
                bar.update(1)


def fit_prototypes(positions: StoredPositions) -> Tensor:
    """Mean z of each sub-class (method, section 2b, step 3).

    The sums are exact, see :class:`ProjectedSpace`. A sub-class without positions gets its center.

    Returns:
        (C*M, L), float32, the same on every rank.
    """
    sums = torch.zeros_like(positions.centers, dtype=torch.float64)
    counts = torch.zeros(len(sums), dtype=torch.int64, device=sums.device)
    with errors_on_all_ranks(), full_precision(positions.device):
        for block in positions.blocks('prototypes'):
            sums.index_add_(0, block.subclasses, block.offsets.double() * STEP)
            counts += torch.bincount(block.subclasses, minlength=len(counts))
    sum_over_ranks(sums)
    sum_over_ranks(counts)
    class_means = positions.space.means.repeat_interleave(positions.num_subclasses, 0)
    means = class_means + sums / counts.clamp(min=1)[:, None]
    return torch.where(counts[:, None] > 0, means.float(), positions.centers)


def fit_decisions(positions: StoredPositions, prototypes: Tensor) -> Tensor:
    """Count how often positions of sub-class a are nearest to prototype b (section 2b, step 4).

    The counts are exactly those of float64 distances.

    Returns:
        (C*M, C*M), float32, on the CPU; rows sum to 1; the same on every rank. Sparse where a dense
        table would take more than ``tables.DENSE_BYTES``.
    """
    counts = counts_for(len(prototypes))
    with errors_on_all_ranks(), full_precision(positions.device):
        search = ExactCenterSearch(prototypes)
        for block in positions.blocks('decision table'):
            counts.add(block.subclasses, search.find(block.points))
        nearest_of_empty = search.find(positions.centers.double()).cpu()
    counts.merge_ranks()
    return counts.to_decisions(nearest_of_empty)
