"""Means, deviations and differences of pairs over seeds, with their 95 % interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import NamedTuple

#: 97.5 % quantiles of Student's t for 1 to 30 degrees of freedom.
# fmt: off
QUANTILES = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423)
# fmt: on


class Summary(NamedTuple):
    """Some runs: how many, their mean and their sample deviation (None for fewer than two)."""

    n: int
    mean: float
    deviation: float | None


class Difference(NamedTuple):
    """The mean difference of pairs, and half of its 95 % interval (None for fewer than two)."""

    n: int
    mean: float
    margin: float | None

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.margin is not None and abs(self.mean) > self.margin


def summarise(values: list[float]) -> Summary | None:
    """Mean and deviation (n - 1) of some values; None without any."""
    if not values:
        return None
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Summary(len(values), statistics.fmean(values), deviation)


def compare(first: Mapping[int, float], second: Mapping[int, float]) -> Difference | None:
    """The difference ``first - second`` over the seeds that both have; None without any.

    The interval is that of a paired t test: mean +- t(0.975, n - 1) * deviation / sqrt(n). It supposes
    that differences are normally distributed, and knows nothing of other comparisons.
    """
    found = summarise([first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())])
    if found is None:
        return None
    margin = None
    if found.deviation is not None:
        margin = quantile(found.n - 1) * found.deviation / math.sqrt(found.n)
    return Difference(found.n, found.mean, margin)


def quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t; above 30 degrees of freedom by expansion, to 1e-4."""
    if degrees <= len(QUANTILES):
        return QUANTILES[degrees - 1]
    z = statistics.NormalDist().inv_cdf(0.975)
    terms = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + terms[0] / degrees + terms[1] / degrees**2
