"""K-means with a few centers inside each of many groups, many groups at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from mmengine import dist
from torch import Tensor

from .distributed import sum_over_ranks
from .numerics import full_precision
from .progress import Progress, stage
from .seeding import draw_uniforms, greedy_plus_plus

# Share of points that may still change their cluster at the end.
_SETTLED = 1e-3
# Small groups one at a time would waste their time in calls, all at once would leave the cache.
_CPU_ELEMENTS = 1 << 18
_ACCELERATOR_ELEMENTS = 1 << 26


class GroupedKMeansResult(NamedTuple):
    """What k-means inside each group has found.

    Attributes:
        centers: (G, M, D), float64.
        inertia: (G,), float64, sums of squared distances to the nearest center.
        degenerate: (G,), bool, groups with fewer distinct points than clusters.
    """

    centers: Tensor
    inertia: Tensor
    degenerate: Tensor


def grouped_kmeans(
    rows: Tensor,
    counts: Tensor,
    num_clusters: int,
    *,
    device: torch.device,
    iterations: int = 50,
    seed: int = 0,
    progress: Optional[Progress] = None,
) -> GroupedKMeansResult:
    """K-means inside each group, seeded by greedy k-means++ and ended when hardly a point moves.

    An empty cluster is put on the point of its group that is farthest from its own center, several
    on the farthest ones in turn. A group with fewer distinct points than clusters keeps equal
    centers and is reported. Ranks share the groups; all must hold the same ``rows``.

    Args:
        rows: (n, D), sorted by group; any floating point type.
        counts: (G,), int64, sizes of the groups, each at least one.
        num_clusters: M.
        device: Where to calculate.
        iterations: Largest number of steps.
        seed: Chooses the first centers.
        progress: See :class:`~mmkdlayer.fitting.progress.Progress`.
    """
    groups, channels = len(counts), rows.shape[1]
    centers = torch.zeros(groups, num_clusters, channels, dtype=torch.float64)
    inertia = torch.zeros(groups, dtype=torch.float64)
    degenerate = torch.zeros(groups, dtype=torch.int32)
    uniforms = draw_uniforms(groups, num_clusters, seed)
    starts = counts.cumsum(0) - counts
    blocks = list(_blocks(counts, channels, device))
    own = blocks[dist.get_rank() :: dist.get_world_size()]
    with full_precision(device), stage(progress, 'sub-class k-means', len(own)) as bar:
        for block in own:
            parts = [rows[starts[g] : starts[g] + counts[g]].to(device).double() for g in block]
            result = _Block(parts, num_clusters).fit(uniforms[block].to(device), iterations)
            for target, value in zip((centers, inertia, degenerate), result):
                target[block] = value.to(target)
            bar.update(1)
    for tensor in (centers, inertia, degenerate):
        sum_over_ranks(tensor)
    return GroupedKMeansResult(centers, inertia, degenerate.bool())


def _blocks(counts: Tensor, channels: int, device: torch.device) -> Iterator[list[int]]:
    """Groups of similar size, as many as fit the cache of the device when padded to one size."""
    limit = _CPU_ELEMENTS if device.type == 'cpu' else _ACCELERATOR_ELEMENTS
    block: list[int] = []
    for group in torch.argsort(counts, descending=True, stable=True).tolist():
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
        longest = int(sizes.max())
        # Padding is zero after centring, so that it adds nothing to sums.
        self.points = torch.stack(
            [
                F.pad(part - mean, (0, 0, 0, longest - len(part)))
                for part, mean in zip(parts, self.means)
            ]
        )
        self.mask = torch.arange(longest, device=device) < sizes[:, None]
        self.squares = self.points.square().sum(2)
        self.singles = self.points.float()
        self.first = torch.arange(len(parts), device=device)[:, None]

    def fit(self, uniforms: Tensor, iterations: int) -> tuple:
        """Centers (G, M, D), inertia (G,) and which groups ended with equal centers (G,)."""
        centers = greedy_plus_plus(self.points, self.mask, uniforms)
        clusters = self._assign(centers)
        for _ in range(iterations):
            centers = self._move(centers, clusters)
            before, clusters = clusters, self._assign(centers)
            if int((clusters != before).sum()) <= _SETTLED * clusters.numel():
                break
        distances = self._own_distances(centers, clusters)
        empty = self._counts(clusters) == 0
        return centers + self.means[:, None], distances.sum(1), empty.any(1)

    def _assign(self, centers: Tensor) -> Tensor:
        """Nearest center (G, n) of each point, by float32 products of the centred points."""
        singles = centers.float()
        bias = -centers.square().sum(2).float() / 2
        return torch.baddbmm(bias[:, None], self.singles, singles.transpose(1, 2)).argmax(2)

    def _flat(self, clusters: Tensor) -> Tensor:
        return (clusters + self.num_clusters * self.first).view(-1)

    def _counts(self, clusters: Tensor) -> Tensor:
        total = len(clusters) * self.num_clusters
        flat = self._flat(clusters)[self.mask.view(-1)]
        return torch.bincount(flat, minlength=total).view(-1, self.num_clusters)

    def _move(self, centers: Tensor, clusters: Tensor) -> Tensor:
        sums = torch.zeros_like(centers)
        flat = self.points.view(-1, self.points.shape[2])
        sums.view(-1, self.points.shape[2]).index_add_(0, self._flat(clusters), flat)
        counts = self._counts(clusters)
        moved, empty = sums / counts.clamp(min=1)[:, :, None], counts == 0
        for group in empty.any(1).nonzero().squeeze(1).tolist():
            self._revive(group, moved, centers, clusters, empty[group].nonzero().squeeze(1))
        return moved

    def _revive(
        self, group: int, moved: Tensor, centers: Tensor, clusters: Tensor, empty: Tensor
    ) -> None:
        one = slice(group, group + 1)
        distances = self._own_distances(centers[one], clusters[one], one)[0]
        values, places = distances.topk(min(len(empty), len(distances)))
        useful = int((values > 1e-12 * self.squares[group].max()).sum())
        moved[group, empty] = centers[group, empty]
        moved[group, empty[:useful]] = self.points[group, places[:useful]]

    def _own_distances(
        self, centers: Tensor, clusters: Tensor, groups: slice = slice(None)
    ) -> Tensor:
        own = centers.gather(1, clusters[:, :, None].expand(-1, -1, centers.shape[2]))
        return (self.points[groups] - own).square().sum(2) * self.mask[groups]
