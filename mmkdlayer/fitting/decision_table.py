"""From stored projected features and centers to prototypes and the decision table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from .count_table import counts_for
from .distributed import errors_on_all_ranks, sum_over_ranks
from .nearest import ExactCenterSearch, nearest_own_center
from .numerics import exact_float32
from .progress import Progress, stage
from .projected_features import STEP, ProjectedSpace, ProjectionCache


def fit_prototypes(positions: StoredPositions) -> Tensor:
    """Mean z of each sub-class (docs/method.md, section 2b, step 3).

    The sums are exact, see :class:`ProjectedSpace`. A sub-class without positions gets its center.

    Returns:
        (C*M, L), float32, the same on every rank.
    """
    centers, means = positions.centers, positions.space.means
    sums = torch.zeros_like(centers, dtype=torch.float64)
    counts = torch.zeros(len(sums), dtype=torch.int64, device=sums.device)
    with errors_on_all_ranks(), exact_float32(centers.device):
        for block in positions.blocks('prototypes'):
            sums.index_add_(0, block.subclasses, block.offsets.double() * STEP)
            counts += torch.bincount(block.subclasses, minlength=len(counts))
    sum_over_ranks(sums)
    sum_over_ranks(counts)
    class_means = means.repeat_interleave(len(centers) // len(means), 0)
    found = class_means + sums / counts.clamp(min=1)[:, None]
    return torch.where(counts[:, None] > 0, found.float(), centers)


def fit_decisions(positions: StoredPositions, prototypes: Tensor) -> Tensor:
    """Count how often positions of sub-class a are nearest to prototype b (section 2b, step 4).

    The counts are exactly those of float64 distances.

    Returns:
        (C*M, C*M), float32, on the CPU; rows sum to 1; the same on every rank. Sparse where a dense
        table would take more than ``count_table.DENSE_BYTES``.
    """
    counts = counts_for(len(prototypes))
    with errors_on_all_ranks(), exact_float32(positions.centers.device):
        search = ExactCenterSearch(prototypes)
        for block in positions.blocks('decision table'):
            counts.add(block.subclasses, search.find(block.points))
        nearest_of_empty = search.find(positions.centers.double()).cpu()
    counts.merge_ranks()
    return counts.to_decisions(nearest_of_empty)


class StoredBlock(NamedTuple):
    """Positions of one block of the cache.

    Attributes:
        offsets: (n, L), int32, z less the mean of the class in steps of ``STEP``.
        points: (n, L), float64, z.
        subclasses: (n,), int64, in [0, C*M): the nearest center among those of the own class.
    """

    offsets: Tensor
    points: Tensor
    subclasses: Tensor


@dataclass
class StoredPositions:
    """The positions that one rank has stored, to be read as often as needed.

    Attributes:
        cache: What the rank has stored.
        space: How it was stored, on the device on which to calculate.
        centers: (C*M, L), float32, on the same device.
        progress: See :data:`~mmkdlayer.fitting.progress.Progress`.
    """

    cache: ProjectionCache
    space: ProjectedSpace
    centers: Tensor
    progress: Optional[Progress] = None

    def blocks(self, desc: str) -> Iterator[StoredBlock]:
        """One block after the other."""
        device = self.centers.device
        centers = self.centers.double().unflatten(0, (len(self.space.means), -1))
        with stage(self.progress, desc, len(self.cache)) as bar:
            for stored, own in self.cache.blocks():
                offsets, labels = stored.to(device), own.to(device)
                points = self.space.restore(offsets, labels)
                nearest = nearest_own_center(points, centers[labels])
                subclasses = nearest + centers.shape[1] * labels[:, None]
                yield StoredBlock(offsets.flatten(0, 1), points.flatten(0, 1), subclasses.flatten())
                bar.update(1)
