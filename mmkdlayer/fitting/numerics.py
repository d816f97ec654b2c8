"""How precisely and in which parts fitting calculates."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mmkdlayer.precision import float32_products

_CPU_ELEMENTS = 1 << 20
_ACCELERATOR_ELEMENTS = 1 << 26
# Of the smallest step: that of float32's normal numbers.
_SMALLEST_EXPONENT = -126


def rows_per_chunk(row_elements: int, device: torch.device) -> int:
    """Rows of a temporary matrix that stays in a CPU's caches, or that fills an accelerator."""
    limit = _CPU_ELEMENTS if device.type == 'cpu' else _ACCELERATOR_ELEMENTS
    return max(1, limit // max(1, row_elements))


@contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Real float32 products (no TF32, no bfloat16) and no autocast or gradients inside.

    The error bounds of the exact nearest-center search hold for real float32 only.
    """
    with torch.no_grad(), float32_products(device):
        yield


def exact_steps(largest: Tensor, number: int) -> Tensor:
    """Steps (D,), float64, powers of two: sums of ``number`` multiples of them are exact in float64.

    Exact sums do not depend on their order: that of a GPU's atomic additions, of batches, of ranks.
    ``largest`` (D,) are the largest absolute values of each channel. The steps are at most 2^-51 n
    of them for n numbers: finer than float32 for as many as 2^27.
    """
    exponents = torch.frexp(largest.cpu().double()).exponent
    # Of what a value can be rounded up to, the next power of two.
    exponents = (exponents + max(1, number - 1).bit_length() - 53).clamp(min=_SMALLEST_EXPONENT)
    return torch.ldexp(torch.ones(len(largest), dtype=torch.float64), exponents).to(largest.device)


def count_(counts: Tensor, groups: Tensor) -> None:
    """Add to ``counts`` (G,), int64, how often each of them is in ``groups`` (n,).

    As ``torch.bincount``, which waits for a GPU to find the largest group.
    """
    counts.index_add_(0, groups, torch.ones_like(groups))


def round_to_(points: Tensor, steps: Tensor) -> Tensor:
    """Round ``points`` (..., D) in place to multiples of ``steps`` (D,)."""
    steps = steps.to(points.dtype)
    return points.div_(steps).round_().mul_(steps)


def affine(points: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``points @ weight.T + bias``, (n, K), in float32, by the fastest product of the device.

    torch multiplies CPU matrices with MKL, whose AVX-512 kernels are for Intel's processors only;
    the oneDNN that it carries too is 2.5 times as fast on others and no slower on those.
    Shapes: points (n, D), weight (K, D), bias (K,).
    """
    if points.device.type == 'cpu' and _has_onednn():
        return _onednn_affine(points, weight, bias)
    return torch.addmm(bias, points, weight.t())


def _onednn_affine(points: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(points, weight, bias, 'none', [], '')


@functools.cache
def _has_onednn() -> bool:
    """Whether this torch has the product that its own compiler uses, and it works."""
    points, weight = torch.eye(3), torch.arange(6.0).view(2, 3)
    try:
        return torch.equal(_onednn_affine(points, weight, torch.zeros(2)), weight.t())
    except (AttributeError, RuntimeError):
        return False
