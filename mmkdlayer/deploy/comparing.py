"""Compares logits: how far two forms of a student are apart, and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError

#: The same operations in the same order; folding and other programs sum up in another order.
TOLERANCE, LOOSE_TOLERANCE = 1e-5, 1e-4

Runner = Callable[[Tensor], Tensor]


class Logits(nn.Module):
    """A classifier as a plain function from images to logits."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        return self.student(images, mode='tensor')


class Comparison(NamedTuple):
    """How far logits are from those that they should be."""

    difference: float  #: the largest difference; NaN if any is
    #: The largest magnitude of the right ones. Rounding grows with it: logits of 1,000 can't be
    #: told apart by less than 1e-4 in float32.
    scale: float

    def allowed(self, tolerance: float) -> float:
        """The largest difference that passes: this share of the largest logit, at least of 1."""
        return tolerance * max(1.0, self.scale)

    def fits(self, tolerance: float) -> bool:
        """Whether the difference is small enough; NaN is not, nor is one of infinite logits."""
        return self.difference <= self.allowed(tolerance) < math.inf

    def check(self, tolerance: float, what: str) -> None:
        """Raise a ConfigError where the logits of ``what`` differ too much."""
        if not self.fits(tolerance):
            raise ConfigError(
                f'{what} gives other logits than the training student: expected a difference of at most '
                f'{self.allowed(tolerance):.3g} ({tolerance} of the largest logit, {self.scale:.3g}, or '
                f'of 1 where that is less), but found {self.difference:.3g}. Nothing was written.'
            )


@torch.no_grad()
def compare(found: Runner, right: Runner, batches: Sequence[Tensor]) -> Comparison:
    """Compare the logits of two networks on batches (N, C, H, W)."""
    expected = [right(batch) for batch in batches]
    differences = [found(batch) - logits for batch, logits in zip(batches, expected)]
    return Comparison(_largest(differences), _largest(expected))


def _largest(tensors: Sequence[Tensor]) -> float:
    return float(torch.stack([tensor.abs().max() for tensor in tensors]).max())  # NaN if any is
