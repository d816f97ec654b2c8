"""Cosine matches: 1x1 convolutions between unit vectors."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkdlayer.models.ops import full_precision, maps_of, rows_of

EPS = 1e-12


def inverse_norm(x: Tensor) -> Tensor:
    """One over the length of each position's vector, never above 1 / EPS.

    A position that is exactly zero has no direction: it gets 0, so that the normalised vector is zero
    (as with ``torch.nn.functional.normalize``) and its gradient is zero instead of 1e12, which would
    overflow in half precision.

    Args:
        x: Feature map, shape (N, C, H, W), any float dtype.

    Returns:
        Shape (N, 1, H, W), in float32 or better.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=dtype)
    return torch.where(norm > 0, norm.clamp_min(EPS).reciprocal(), torch.zeros_like(norm))


class UnitConv2d(nn.Module):
    """A 1x1 convolution between unit vectors, times one learned scale.

    ``out_k(i) = scale * <w_k / |w_k|, x_i / |x_i|>`` (letKD, section 3.1). By linearity the division by
    ``|x_i|`` may come before or after the product: it is done on the side with fewer channels, so
    that the larger side is written once and no normalised copy of it is kept.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        scale: First value of the learned scale.
    """

    def __init__(self, in_channels: int, out_channels: int, scale: float) -> None:
        super().__init__()
        self.first_scale = float(scale)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 1, 1))
        self.scale = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the kernel from Normal(0, sqrt(2 / in_channels)) and reset the scale."""
        nn.init.normal_(self.weight, 0.0, math.sqrt(2.0 / self.weight.size(1)))
        nn.init.constant_(self.scale, self.first_scale)

    def forward(
        self, x: Tensor, by: Callable[[UnitConv2d, Tensor], Tensor] | None = None
    ) -> Tensor:
        """Map (N, C, H, W) to (N, K, H, W); float32 or better whatever the dtype of ``x``.

        Args:
            x: Feature map.
            by: Computes the same numbers in another way, where a caller has one.
        """
        # In full precision: the gradient of the product grows with 1 / |x|, beyond what half holds.
        with full_precision(x):
            if by is not None:
                return by(self, x)
            kernel = self.scale[:, None] * F.normalize(self.weight.flatten(1), dim=1, eps=EPS)
            dtype = torch.promote_types(torch.promote_types(x.dtype, kernel.dtype), torch.float32)
            x, kernel = x.to(dtype), kernel.to(dtype)
            if kernel.size(0) > kernel.size(1):
                return maps_of(rows_of(x * inverse_norm(x)) @ kernel.t(), x)
            return F.conv2d(x, kernel[:, :, None, None]) * inverse_norm(x)

    def extra_repr(self) -> str:
        """Sizes, for ``print(model)``."""
        out_channels, in_channels = self.weight.shape[:2]
        return f'{in_channels}, {out_channels}, scale={self.first_scale}'
