"""Cosine matches: 1x1 convolutions between unit vectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkdlayer.models.ops import maps_of, product, product_gradients, rows_of
from mmkdlayer.precision import float32_products, is_compiling

EPS = 1e-12
#: In float16, the gradient of a vector that is shorter than this is that of one of this length.
HALF_SHORTEST = 2.0**-6


def shortest(dtype: torch.dtype) -> float:
    """The length by which gradients of shorter vectors are divided, too, for a dtype of a map.

    The gradient of ``x / |x|`` grows with 1 / |x|. In float16, whose largest number is 65504, one short
    vector among thousands would make the loss scale fall for all: with :data:`HALF_SHORTEST` a gradient
    is at most 64 times that of a vector of length 1.
    """
    return HALF_SHORTEST if dtype == torch.float16 else EPS


def inverse_norm(x: Tensor) -> Tensor:
    """One over the length of each position's vector, never above 1 / EPS, in float32 or better.

    Of (N, C, H, W) it is (N, 1, H, W). A position that is exactly zero has no direction: it gets 0,
    so that the normalised vector is zero (as with ``torch.nn.functional.normalize``) and its
    gradient is zero instead of 1e12, which would overflow in half precision.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=dtype)
    return torch.where(norm > 0, norm.clamp_min(EPS).reciprocal(), torch.zeros_like(norm))


class UnitConv2d(nn.Module):
    """A 1x1 convolution between unit vectors, times one learned scale.

    ``out_k(i) = scale * <w_k / |w_k|, x_i / |x_i|>`` (letKD, section 3.1). By linearity the division by
    ``|x_i|`` may come before or after the product: it is done on the side with fewer channels, so
    that the larger side is written once and no normalised copy of it is kept.

    The product and its gradients are in full float32 whatever torch's switches and autocast say; set the
    attribute ``precision`` to 'tf32' for TensorFloat-32 on CUDA. In a trace (ONNX, TorchScript,
    ``torch.compile``) torch's switches count when it runs.

    In float16 the gradient of a position with ``|x| < 2^-6`` is that of one with ``|x| = 2^-6`` in the
    same direction (see :func:`shortest`). Values and other dtypes know no such floor.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        scale: First value of the learned scale.
    """

    def __init__(self, in_channels: int, out_channels: int, scale: float) -> None:
        super().__init__()
        self.first_scale = float(scale)
        self.precision = 'float32'
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

        ``by`` computes the same numbers in another way, where a caller has one.
        """
        # In full precision: the gradient of the product grows with 1 / |x|, beyond what half holds.
        with float32_products(x.device, self.precision):
            if by is not None:
                return by(self, x)
            kernel = self.scale[:, None] * F.normalize(self.weight.flatten(1), dim=1, eps=EPS)
            dtype = torch.promote_types(torch.promote_types(x.dtype, kernel.dtype), torch.float32)
            with_floor = x.dtype == torch.float16 and x.requires_grad
            x, kernel = x.to(dtype), kernel.to(dtype)
            inverse = inverse_norm(x)
            if with_floor:  # the same value, whose gradient is multiplied by a factor up to 1
                same, factor = x.detach(), (inverse.detach() * HALF_SHORTEST).reciprocal()
                x = same + factor.clamp_max(1) * (x - same)
                inverse = inverse_norm(x)
            if kernel.size(0) > kernel.size(1):
                return self._product(x * inverse, kernel)
            return self._product(x, kernel) * inverse

    def _product(self, x: Tensor, kernel: Tensor) -> Tensor:
        """The convolution of (N, C, H, W) with a kernel (K, C)."""
        if torch.jit.is_tracing() or is_compiling():
            if kernel.size(0) > kernel.size(1):
                return maps_of(rows_of(x) @ kernel.t(), x)
            return F.conv2d(x, kernel[:, :, None, None])
        if torch.is_grad_enabled() and (x.requires_grad or kernel.requires_grad):
            return maps_of(_Product.apply(rows_of(x), kernel, self.precision), x)
        return maps_of(product(rows_of(x), kernel), x)

    def extra_repr(self) -> str:
        """Sizes, for ``print(model)``."""
        out_channels, in_channels = self.weight.shape[:2]
        return f'{in_channels}, {out_channels}, scale={self.first_scale}'


class _Product(torch.autograd.Function):
    """``rows @ weight.T`` with the precision held in its backward pass too, which is differentiable."""

    generate_vmap_rule = True

    @staticmethod
    def forward(rows: Tensor, weight: Tensor, precision: str) -> Tensor:
        return product(rows, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.precision = inputs[2]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        rows, weight = ctx.saved_tensors
        (grad,) = grads
        with float32_products(grad.device, ctx.precision):
            if torch.is_grad_enabled():
                d_rows = _Product.apply(grad, weight.t(), ctx.precision)
                return d_rows, _Product.apply(grad.t(), rows.t(), ctx.precision), None
            return *product_gradients(grad, rows, weight), None
