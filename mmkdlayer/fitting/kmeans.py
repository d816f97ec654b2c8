"""K-means with thousands of centers on one large set of vectors."""

from __future__ import annotations

import warnings
from typing import Optional

import torch
from mmengine import dist
from torch import Tensor

from mmkdlayer.errors import DataError

from .distributed import concat_over_ranks, first_rank_decides, sum_over_ranks
from .grouped_kmeans import draw_uniforms, greedy_plus_plus
from .nearest import CenterSearch
from .numerics import count_, exact_float32, exact_steps, round_to_, rows_per_chunk
from .progress import stage
from .sampling import vector_hashes

# k-means++ takes a pass over its points for each center: worth it up to some hundred centers,
# on this many random points a center. Thousands of random centers are as good.
_PLUS_PLUS_CENTERS = 512
_PLUS_PLUS_POINTS = 64
# Streamed points may be so many times as large as the centers for their sums to be exact.
_MARGIN = 8


def kmeans(points: Tensor, num_clusters: int, *, iterations: int = 25, seed: int = 0) -> Tensor:
    """Lloyd's algorithm from seeded random distinct points, or k-means++ for some hundred centers.

    Distances are float32 products of vectors centred about their mean, sums are exact (of points
    that are rounded to steps below float32's own, see :func:`exact_steps`). An empty cluster is put
    on the point farthest from its own center, several on the farthest ones in turn. Every rank must
    hold the same ``points`` (n, D), float32, which are centred in place and rounded: ranks share
    the search for nearest centers, and the result is the same for any number of them. Ends after
    ``iterations`` steps, or when no point changes its cluster.

    Returns:
        Centers (K, D), float32.

    Raises:
        DataError: Fewer points than clusters.
    """
    if len(points) < num_clusters:
        raise DataError(
            f'K-means with {num_clusters} centroids needs at least as many feature vectors, but '
            f'the data gives {len(points)}. Use more images or set num_centroids lower.'
        )
    with exact_float32(points.device), stage('k-means', iterations) as bar:
        step = rows_per_chunk(points.shape[1], points.device)
        total = torch.zeros_like(points[0], dtype=torch.float64)
        for part in points.split(step):
            total += part.double().sum(0)
        mean = first_rank_decides(total / len(points)).float()
        largest = torch.stack([part.sub_(mean).abs().amax(0) for part in points.split(step)]).amax(
            0
        )
        steps = exact_steps(largest, len(points))
        for part in points.split(step):
            round_to_(part, steps)
        squares = torch.cat([part.square().sum(1) for part in points.split(step)])
        centers = first_rank_decides(_first_centers(points, num_clusters, seed))
        before = None
        for _ in range(iterations):
            clusters, scores = _search(points, centers)
            if before is not None and torch.equal(clusters, before):
                break
            before = clusters
            distances = (squares - 2 * scores).clamp_(min=0)
            centers = first_rank_decides(_move(points, centers, clusters, distances))
            bar.update(1)
        return (centers.double() + mean).float()


def _first_centers(points: Tensor, number: int, seed: int) -> Tensor:
    """Greedy k-means++ among random distinct points for few centers, the points for many."""
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
    order = order.to(points.device)
    step = rows_per_chunk(points.shape[1], points.device)
    hashes = torch.cat([vector_hashes(points[part], seed) for part in order.split(step)])
    ordered, places = hashes.sort(stable=True)
    # The first of each run of equal ones is the first in the random order too.
    first = places[torch.cat([ordered[:1] == ordered[:1], ordered[1:] != ordered[:-1]])]
    distinct = order[first.sort().values]
    if len(distinct) < number:
        warnings.warn(
            f'The data holds only {len(distinct)} distinct feature vectors for {number} centroids: '
            'some centroids are equal. Set num_centroids lower or use more images.',
            stacklevel=3,
        )
        distinct = distinct.repeat(-(-number // len(distinct)))
    elif number <= _PLUS_PLUS_CENTERS:
        part = points[distinct[: _PLUS_PLUS_POINTS * number]].double()[None]
        mask = torch.ones(part.shape[:2], dtype=torch.bool, device=part.device)
        uniforms = draw_uniforms(1, number, seed).to(part.device)
        return greedy_plus_plus(part, mask, uniforms)[0].float()
    return points[distinct[:number]]


def _search(points: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest centers of all points and their scores, each rank searching for a part of them."""
    search = CenterSearch(centers)
    # Parts are whole chunks, for products of the same shape whatever the number of ranks.
    chunks, rank, world = -(-len(points) // search.rows), dist.get_rank(), dist.get_world_size()
    start, end = (chunks * number // world * search.rows for number in (rank, rank + 1))
    indices, scores = search.find(points[start:end])
    return concat_over_ranks(indices.int()).long(), concat_over_ranks(scores)


def _move(points: Tensor, centers: Tensor, clusters: Tensor, distances: Tensor) -> Tensor:
    """The mean of every cluster, and a new place for every empty one.

    The sums are exact: their order, that of atomic additions on a GPU, is of no account.
    """
    sums = torch.zeros_like(centers, dtype=torch.float64)
    step = rows_per_chunk(points.shape[1], points.device)
    for part, own in zip(points.split(step), clusters.split(step)):
        sums.index_add_(0, own, part.double())
    counts = torch.zeros_like(clusters[:1]).repeat(len(centers))
    count_(counts, clusters)
    moved = (sums / counts.clamp(min=1)[:, None]).float()
    empty = (counts == 0).nonzero().squeeze(1)
    if len(empty):
        farthest = distances.topk(len(empty)).indices
        gaps = points[farthest] - centers[clusters[farthest]]
        # A point on its center is no better place: the data has fewer distinct points than K.
        useful = gaps.abs().amax(1, keepdim=True) > 0
        moved[empty] = torch.where(useful, points[farthest], centers[empty])
    return moved


class StreamedStep:
    """One step of Lloyd's algorithm over streamed points, in any batches and on any ranks.

    The sums are exact, of points that are rounded to steps (see :func:`exact_steps`) that allow for
    values up to 8 times the largest of the centers in each channel.

    Args:
        centers: (K, D), float32.
        number: How many points there are on all the ranks.
        sums: (K, D), float64, of the points of each cluster so far; None before the first.
        counts: (K,), int64, likewise.
    """

    def __init__(
        self,
        centers: Tensor,
        number: int,
        sums: Optional[Tensor] = None,
        counts: Optional[Tensor] = None,
    ) -> None:
        self._centers, self._number = centers, number
        self._steps = exact_steps(_MARGIN * centers.abs().amax(0), number)
        self._origin = centers.double().mean(0).float()
        self._search = CenterSearch(centers - self._origin)
        self._sums = torch.zeros_like(centers, dtype=torch.float64) if sums is None else sums
        zeros = torch.zeros_like(centers[:, 0], dtype=torch.int64)
        self._counts = zeros if counts is None else counts

    def update(self, points: Tensor) -> None:
        """Add points (n, D), float32."""
        with exact_float32(points.device):
            for part in points.split(rows_per_chunk(points.shape[1], points.device)):
                own, _ = self._search.find(part - self._origin)
                self._sums.index_add_(0, own, round_to_(part.double(), self._steps))
                count_(self._counts, own)

    def state(self) -> dict[str, Tensor]:
        """The arguments that continue here."""
        number = torch.tensor(self._number)
        return dict(centers=self._centers, number=number, sums=self._sums, counts=self._counts)

    def finish(self) -> Tensor:
        """The mean of every cluster (K, D); an empty one keeps its center."""
        counts = sum_over_ranks(self._counts)[:, None]
        means = (sum_over_ranks(self._sums) / counts.clamp(min=1)).float()
        return first_rank_decides(torch.where(counts > 0, means, self._centers))
