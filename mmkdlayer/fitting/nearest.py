"""Nearest of many centers, quickly and, where counts are published, exactly."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .numerics import affine, rows_per_chunk

_GROUP = 64
_UNIT_ROUNDOFF = 2.0**-24
#: How ``torch.cdist`` calculates distances from the differences.
DIRECT = 'donot_use_mm_for_euclid_dist'


class CenterSearch:
    """Finds the center with the largest score <x, c> - |c|^2 / 2, which is the nearest one.

    A chunk of scores is one matrix product that never leaves the cache. Its maximum is looked for
    in two levels (the best of every 64 scores, then the place inside the best 64), because a
    maximum without index vectorises and one with index does not. Ties go to the lowest index.

    Args:
        centers: (K, D), float32. They and the points should be centred about a common mean:
            the scores of float32 vectors far from zero are imprecise.
    """

    def __init__(self, centers: Tensor) -> None:
        padding = -len(centers) % _GROUP
        self._centers = F.pad(centers, (0, 0, 0, padding))
        half_squares = centers.double().square().sum(1) / 2
        self._bias = F.pad(-half_squares, (0, padding), value=-torch.inf).float()
        self.rows = rows_per_chunk(len(self._centers), centers.device)

    def find(self, points: Tensor, lead: bool = False) -> tuple[Tensor, Tensor]:
        """The index (n,) of the best center of each point (n, D), float32, and its score (n,).

        ``lead`` gives, instead of the score, by how much it is larger than the second best one.
        """
        indices = torch.empty(len(points), dtype=torch.int64, device=points.device)
        values = points.new_empty(len(points))
        for start in range(0, len(points), self.rows):
            part = slice(start, start + self.rows)
            scores = affine(points[part], self._centers, self._bias)
            scores = scores.view(len(scores), -1, _GROUP)
            tops = scores.amax(2)
            group = tops.argmax(1, keepdim=True)
            best = tops.gather(1, group)
            own = scores[torch.arange(len(scores), device=scores.device), group.squeeze(1)]
            inside = own.argmax(1, keepdim=True)
            if lead:
                other = tops.scatter_(1, group, -torch.inf).amax(1, keepdim=True)
                own.scatter_(1, inside, -torch.inf)
                best -= torch.maximum(other, own.amax(1, keepdim=True))
            indices[part] = (group * _GROUP + inside).squeeze(1)
            values[part] = best.squeeze(1)
        return indices, values


class ExactCenterSearch:
    """Finds the nearest center as float64 distances would, at nearly the cost of float32.

    The float32 scores of points and centers about the mean of the centers decide wherever the best
    leads by more than twice their largest possible rounding error, (D + 8) u (|x| |c| + |c|^2 / 2);
    the few other points are decided by float64 distances. Ties go to the lowest index.

    Args:
        centers: (K, D), float32.
    """

    def __init__(self, centers: Tensor) -> None:
        self._exact = centers.double()
        self._origin = self._exact.mean(0)
        centred = (self._exact - self._origin).float()
        self._search = CenterSearch(centred)
        self._reach = float(centred.norm(dim=1).max())
        self._unit = (centers.shape[1] + 8) * _UNIT_ROUNDOFF

    def find(self, points: Tensor) -> Tensor:
        """The index (n,), int64, of the nearest center of each point (n, D), float64."""
        centred = (points - self._origin).float()
        indices, leads = self._search.find(centred, lead=True)
        error = self._unit * self._reach * (centred.norm(dim=1) + self._reach / 2)
        unsure = (leads <= 2 * error).nonzero().squeeze(1)
        step = rows_per_chunk(2 * len(self._exact), points.device)
        for part in unsure.split(step):
            indices[part] = torch.cdist(points[part], self._exact, compute_mode=DIRECT).argmin(1)
        return indices
