"""K-means with a few centers inside each of many groups, many groups at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from mmengine import dist
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .distributed import sum_over_ranks
from .numerics import exact_float32, exact_steps, round_to_
from .progress import stage

# Candidates for each center of k-means++.
_CANDIDATES = 4
# Share of points that may still change their cluster at the end.
_SETTLED = 1e-3
# Small groups one at a time would waste their time in calls, all at once would leave the cache.
_CPU_ELEMENTS = 1 << 18
_ACCELERATOR_ELEMENTS = 1 << 26


def grouped_kmeans(
    rows: Tensor,
    counts: Tensor,
    num_clusters: int,
    *,
    device: torch.device,
    iterations: int = 50,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """K-means inside each group, seeded by greedy k-means++ and ended when hardly a point moves.

    An empty cluster is put on the point of its group that is farthest from its own center, several
    on the farthest ones in turn. A group with fewer distinct points than clusters keeps equal
    centers and is reported; one without points has centers of zeros. Ranks share the groups; all must
    hold the same ``rows`` (n, D), sorted by group, of which there are ``counts`` (G,), int64. They are
    calculated with on ``device``, in ``iterations`` steps at most.

    Returns:
        Centers (G, M, D), float64, for M clusters, and which groups have fewer distinct points than
        clusters (G,), bool.
    """
    groups, channels = len(counts), rows.shape[1]
    centers = torch.zeros(groups, num_clusters, channels, dtype=torch.float64)
    degenerate = torch.zeros(groups, dtype=torch.int32)
    uniforms = draw_uniforms(groups, num_clusters, seed)
    grouped = rows.split(counts.tolist())
    blocks = list(_blocks(counts, channels, device))
    own = blocks[dist.get_rank() :: dist.get_world_size()]
    with exact_float32(device), stage('sub-class k-means', len(own)) as bar:
        for block in own:
            parts = [grouped[group].to(device).double() for group in block]
            found, equal = _Block(parts, num_clusters).fit(uniforms[block].to(device), iterations)
            centers[block], degenerate[block] = found.cpu(), equal.cpu().int()
            bar.update(1)
    return sum_over_ranks(centers), sum_over_ranks(degenerate).bool()


def _blocks(counts: Tensor, channels: int, device: torch.device) -> Iterator[list[int]]:
    """Groups of similar size, as many as fit the cache of the device when padded to one size."""
    limit = _CPU_ELEMENTS if device.type == 'cpu' else _ACCELERATOR_ELEMENTS
    block: list[int] = []
    for group in torch.argsort(counts, descending=True, stable=True).tolist():
        if not counts[group]:
            break
        if block and (len(block) + 1) * int(counts[block[0]]) * channels > limit:
            yield block
            block = []
        block.append(group)
    yield block


class _Block:
    """Some groups, padded to the size of the largest: points (G, n, D), float64, and their mask."""

    def __init__(self, parts: list[Tensor], num_clusters: int) -> None:
        self.num_clusters = num_clusters
        device = parts[0].device
        sizes = torch.tensor([len(part) for part in parts], device=device)
        self.means = torch.stack([part.mean(0) for part in parts])
        # Padding is zero after centring, so that it adds nothing to sums.
        centred = [part - mean for part, mean in zip(parts, self.means)]
        self.points = pad_sequence(centred, batch_first=True)
        largest = self.points.abs().amax((0, 1))
        # So that the sums are exact, and the order of atomic additions on a GPU is of no account.
        round_to_(self.points, exact_steps(largest, self.points.shape[1]))
        self.mask = torch.arange(self.points.shape[1], device=device) < sizes[:, None]
        self.singles = self.points.float()

    def fit(self, uniforms: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
        """Centers (G, M, D), and which groups ended with equal centers (G,)."""
        centers = greedy_plus_plus(self.points, self.mask, uniforms)
        clusters = self._assign(centers)
        for _ in range(iterations):
            centers = self._move(centers, clusters)
            before, clusters = clusters, self._assign(centers)
            if int((clusters != before).sum()) <= _SETTLED * clusters.numel():
                break
        empty = self._counts(clusters) == 0
        return centers + self.means[:, None], empty.any(1)

    def _assign(self, centers: Tensor) -> Tensor:
        """Nearest center (G, n) of each point, by float32 products of the centred points."""
        singles = centers.float()
        bias = -centers.square().sum(2).float() / 2
        return torch.baddbmm(bias[:, None], self.singles, singles.transpose(1, 2)).argmax(2)

    def _counts(self, clusters: Tensor) -> Tensor:
        counts = torch.zeros_like(clusters[:, :1]).repeat(1, self.num_clusters)
        return counts.scatter_add_(1, clusters, self.mask.long())

    def _move(self, centers: Tensor, clusters: Tensor) -> Tensor:
        first = self.num_clusters * torch.arange(len(centers), device=centers.device)
        sums = torch.zeros_like(centers.flatten(0, 1))
        sums.index_add_(0, (clusters + first[:, None]).flatten(), self.points.flatten(0, 1))
        sums, counts = sums.view_as(centers), self._counts(clusters)
        moved, empty = sums / counts.clamp(min=1)[:, :, None], counts == 0
        some = empty.any(1).tolist()
        for group in itertools.compress(range(len(some)), some):
            self._revive(group, moved, centers, clusters, empty[group].nonzero().squeeze(1))
        return moved

    def _revive(
        self, group: int, moved: Tensor, centers: Tensor, clusters: Tensor, empty: Tensor
    ) -> None:
        """Put the empty clusters of one group on its points farthest from their own centers."""
        own = centers[group, clusters[group]]
        distances = (self.points[group] - own).square().sum(1) * self.mask[group]
        values, places = distances.topk(min(len(empty), len(distances)))
        useful = int((values > 1e-12 * self.points[group].square().sum(1).max()).sum())
        moved[group, empty] = centers[group, empty]
        moved[group, empty[:useful]] = self.points[group, places[:useful]]


def draw_uniforms(groups: int, num_clusters: int, seed: int) -> Tensor:
    """The random numbers of :func:`greedy_plus_plus`: (G, K, candidates), float64."""
    generator = torch.Generator().manual_seed(seed)
    shape = (groups, num_clusters, _CANDIDATES)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def greedy_plus_plus(points: Tensor, mask: Tensor, uniforms: Tensor) -> Tensor:
    """Greedy k-means++ (Arthur and Vassilvitskii, 2007) in many groups at once: centers (G, K, D).

    Each center is the best of some candidates, drawn with probabilities proportional to the squared
    distance to the centers before. A group with fewer distinct points gets equal centers. Points
    (G, n, D), float64, are centred; ``mask`` (G, n) says which there are, the first ones of each
    group; ``uniforms`` are (G, K, candidates), float64, in [0, 1).
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
        cumulative = _shares(weights).cumsum(1)
        drawn = (uniforms[:, step] * cumulative[:, -1:]).long()
        picks = torch.searchsorted(cumulative, drawn, right=True)
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


def _shares(weights: Tensor) -> Tensor:
    """Weights (G, n) as integers, of which a GPU's running sums are exact (those of floats are not)."""
    scale = 2.0**62 / weights.shape[1] / weights.amax(1, keepdim=True).clamp(min=1e-200)
    return (weights * scale).long()
