"""Synthetic teacher features for the fitting tests."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor


class Maps(NamedTuple):
    """Feature maps (B, D, H, W) with labels (B,)."""

    features: Tensor
    labels: Tensor

    def batches(self, size: int, seed: int | None = None) -> list[tuple[Tensor, Tensor]]:
        """Batches of ``size`` images, in an order that ``seed`` shuffles."""
        order = torch.arange(len(self.labels))
        if seed is not None:
            order = torch.randperm(len(order), generator=torch.Generator().manual_seed(seed))
        return [(self.features[part], self.labels[part]) for part in order.split(size)]

    def positions(self) -> tuple[Tensor, Tensor]:
        """Vectors (n, D), float64, and their labels (n,)."""
        rows = self.features.double().permute(0, 2, 3, 1).flatten(0, 2)
        return rows, self.labels.repeat_interleave(len(rows) // len(self.labels))


def make_maps(
    images: int = 120, classes: int = 6, channels: int = 12, height: int = 3, width: int = 2
) -> Maps:
    """Classes with sub-patterns, behind a ReLU, in no particular order."""
    generator = torch.Generator().manual_seed(17)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    labels = torch.arange(images)[torch.randperm(images, generator=generator)] % classes
    patterns = torch.randint(0, 4, (images, height, width), generator=generator)
    means = normal(classes, channels)[labels][:, None, None] + 1.0
    details = 1.5 * normal(classes, 4, channels)[labels[:, None, None], patterns]
    vectors = means + details + 0.7 * normal(images, height, width, channels)
    return Maps(vectors.relu().permute(0, 3, 1, 2).contiguous(), labels)


@pytest.fixture
def maps() -> Maps:
    return make_maps()


@pytest.fixture(scope='session')
def maps_factory():
    return make_maps
