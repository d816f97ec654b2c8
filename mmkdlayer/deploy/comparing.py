"""Compares logits: how far two forms of a student are apart, and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from mmkdlayer.errors import ConfigError

#: The same operations in the same order; folding and other programs sum up in another order.
TOLERANCE, LOOSE_TOLERANCE = 1e-5, 1e-4

Runner = Callable[[Tensor], Tensor]


class Comparison(NamedTuple):
    """How far logits are from those that they should be.

    Attributes:
        difference: The largest difference; NaN if any is.
        scale: The largest magnitude of the right ones. Rounding grows with it: logits of 1,000 can't be
            told apart by less than 1e-4 in float32.
    """

    difference: float
    scale: float

    def allowed(self, tolerance: float) -> float:
        """The largest difference that passes: this share of the largest logit, at least of 1."""
        return tolerance * max(1.0, self.scale)

    def fits(self, tolerance: float) -> bool:
        """Whether the difference is small enough; NaN is not."""
        return self.difference <= self.allowed(tolerance)

    def check(self, tolerance: float, what: str) -> None:
        """Raise a ConfigError where the logits of ``what`` differ too much."""
        if not self.fits(tolerance):
            raise ConfigError(
                f'{what} gives other logits than the training student: expected a difference of at most '
                f'{self.allowed(tolerance):.3g} ({tolerance} of the largest logit, {self.scale:.3g}, or '
                f'of 1 where that is less), but found {self.difference:.3g}. Nothing was written.'
            )


@torch.no_grad()
def compare(found: Runner, right: Runner, batches: Iterable[Tensor]) -> Comparison:
    """Compare two networks on batches (N, C, H, W); returns the worst, each by its own scale."""
    results = []
    for batch in batches:
        expected = right(batch)
        difference = float((found(batch) - expected).abs().max())
        results.append(Comparison(difference, float(expected.abs().max())))

    def badness(result: Comparison) -> float:
        share = result.difference / result.allowed(1.0)
        return share if math.isfinite(share) else math.inf

    return max(results, key=badness)
