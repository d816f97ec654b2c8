"""From stored projected features and centers to prototypes and the decision table."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .count_table import counts_for
from .distributed import errors_on_all_ranks, sum_over_ranks
from .nearest import DIRECT, ExactCenterSearch
from .numerics import exact_float32
from .progress import stage
from .projected_features import STEP, ProjectedFeatures


def fit_prototypes(features: ProjectedFeatures, centers: Tensor) -> Tensor:
    """Mean z of each sub-class (docs/method.md, section 2b, step 3).

    The sums are exact, see :class:`ProjectedFeatures`. A sub-class without positions gets its center.

    Args:
        features: The positions that this rank has stored.
        centers: (C*M, L), float32, where to calculate; the result is like them, on every rank.
    """
    sums = torch.zeros_like(centers, dtype=torch.float64)
    counts = torch.zeros(len(sums), dtype=torch.int64, device=sums.device)
    with errors_on_all_ranks(), exact_float32(centers.device):
        for offsets, _, subclasses in _blocks(features, centers, 'prototypes'):
            sums.index_add_(0, subclasses, offsets.double() * STEP)
            counts += torch.bincount(subclasses, minlength=len(counts))
    sum_over_ranks(sums)
    sum_over_ranks(counts)
    class_means = features.means.repeat_interleave(len(centers) // len(features.means), 0)
    means = class_means + sums / counts.clamp(min=1)[:, None]
    return torch.where(counts[:, None] > 0, means.float(), centers)


def fit_decisions(features: ProjectedFeatures, centers: Tensor, prototypes: Tensor) -> Tensor:
    """Share of sub-class a that is nearest to prototype b (docs/method.md, section 2b, step 4).

    The counts are exactly those of float64 distances.

    Args:
        features: The positions that this rank has stored.
        centers: (C*M, L), float32, where to calculate.
        prototypes: (C*M, L), float32.

    Returns:
        (C*M, C*M), float32, on the CPU; rows sum to 1; the same on every rank. Sparse where a dense
        table would take more than ``count_table.DENSE_BYTES``.
    """
    counts = counts_for(len(prototypes))
    with errors_on_all_ranks(), exact_float32(centers.device):
        search = ExactCenterSearch(prototypes)
        for _, points, subclasses in _blocks(features, centers, 'decision table'):
            counts.add(subclasses, search.find(points))
        nearest_of_empty = search.find(centers.double()).cpu()
    return counts.to_decisions(nearest_of_empty)


def _blocks(
    features: ProjectedFeatures, centers: Tensor, desc: str
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of n positions at a time: stored offsets (n, L); z (n, L), float64; own sub-classes (n,).

    A sub-class is the nearest center among those of the own class, by float64 distances.
    """
    own_centers = centers.double().unflatten(0, (len(features.means), -1))
    with stage(desc, len(features)) as bar:
        for offsets, labels in features.blocks():
            points = features.restore(offsets, labels)
            nearest = torch.cdist(points, own_centers[labels], compute_mode=DIRECT).argmin(2)
            subclasses = nearest + own_centers.shape[1] * labels[:, None]
            yield offsets.flatten(0, 1), points.flatten(0, 1), subclasses.flatten()
            bar.update(1)
