"""The projected features z = A f + b, as they are stored between passes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .numerics import rows_per_chunk

# Step of the stored numbers: of float32 precision at 1, with room for 256 standard deviations.
STEP = 2.0**-23
_LARGEST = 2.0**31 - 1


class ProjectedSpace(NamedTuple):
    """Projects features and stores z as an offset from the mean of its class, in steps of 2^-23.

    Within a class z has unit variance, so an int32 holds the offset with the precision of float32,
    and a table that is counted from it is that of z itself. Every sum of offsets is exact in
    float64 (multiples of 2^-23 below 2^30): sums do not depend on the order of the data or on the
    number of ranks. The product runs in float64, so that the rounded offset does not depend on the
    shape of the batch either.

    Attributes:
        projection: (L, D), float32.
        offset: (L,), float32.
        means: (C, L), float64, mean z of each class.
    """

    projection: Tensor
    offset: Tensor
    means: Tensor

    def store(self, features: Tensor, labels: Tensor) -> Tensor:
        """Project features (B, P, D) of classes (B,) to stored offsets (B, P, L), int32."""
        weight = self.projection.double().t()
        shift = (self.offset.double() - self.means)[labels]
        parts = []
        step = rows_per_chunk(features.shape[1] * features.shape[2], features.device)
        for part, own in zip(features.split(step), shift.split(step)):
            offsets = part.double() @ weight + own[:, None]
            parts.append(offsets.div_(STEP).round_().clamp_(-_LARGEST, _LARGEST).int())
        return torch.cat(parts)

    def restore(self, offsets: Tensor, labels: Tensor) -> Tensor:
        """The stored z (B, P, L), float64, of offsets (B, P, L) of classes (B,)."""
        return offsets.double() * STEP + self.means[labels][:, None]
