"""The first centers of k-means."""

from __future__ import annotations

import torch
from torch import Tensor

CANDIDATES = 4


def draw_uniforms(groups: int, num_clusters: int, seed: int) -> Tensor:
    """The random numbers of :func:`greedy_plus_plus`: (G, K, candidates), float64."""
    generator = torch.Generator().manual_seed(seed)
    shape = (groups, num_clusters, CANDIDATES)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def greedy_plus_plus(points: Tensor, mask: Tensor, uniforms: Tensor) -> Tensor:
    """Greedy k-means++ (Arthur and Vassilvitskii, 2007) in many groups at once.

    Each center is the best of some candidates, drawn with probabilities proportional to the squared
    distance to the centers before. A group with fewer distinct points gets equal centers.

    Args:
        points: (G, n, D), float64, centred.
        mask: (G, n), bool, which points there are; the first ones of each group.
        uniforms: (G, K, candidates), float64, in [0, 1).

    Returns:
        (G, K, D).
    """
    groups = torch.arange(len(points), device=points.device)[:, None]
    squares = points.square().sum(2)
    # Rounding leaves about 1e-16 of the squared size of the data between equal points.
    floor = 1e-12 * squares.amax(1)[:, None, None]
    last = mask.sum(1, keepdim=True) - 1
    weights = mask.double()
    nearest = torch.full_like(squares, torch.inf)
    chosen = []
    for step in range(uniforms.shape[1]):
        cumulative = weights.cumsum(1)
        picks = torch.searchsorted(cumulative, uniforms[:, step] * cumulative[:, -1:], right=True)
        # Beyond the end only by rounding, or where no distinct point is left: any will do then.
        candidates = points[groups, torch.minimum(picks, last)]
        distances = squares[:, :, None] - 2 * points @ candidates.transpose(1, 2)
        distances += candidates.square().sum(2)[:, None]
        distances = torch.where(distances > floor, distances, 0.0) * mask[:, :, None]
        distances = torch.minimum(distances, nearest[:, :, None])
        best = distances.sum(1).argmin(1, keepdim=True)
        chosen.append(candidates[groups, best])
        nearest = weights = distances[groups, :, best].squeeze(1)
    return torch.cat(chosen, 1)
