"""Matrix products by the faster of torch's two libraries.

On a CPU, torch gives matrix products to MKL or OpenBLAS and convolutions to oneDNN, which uses vector
instructions that MKL leaves alone on some processors (AVX-512 on AMD's: twice as fast in float32). A 1x1
convolution over positions in channels-last order is the same product on the same memory.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Torch leaves oneDNN out for smaller batches.
MKLDNN_MIN_BATCH = 16


def _by_convolution(rows: Tensor) -> bool:
    return (
        rows.device.type == 'cpu'
        and rows.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and rows.size(0) % MKLDNN_MIN_BATCH == 0
        and rows.size(0) > MKLDNN_MIN_BATCH
    )


def _map(rows: Tensor) -> Tensor:
    """Rows (M, C) as a batch (16, C, M / 16, 1); a view where they are contiguous."""
    return rows.reshape(MKLDNN_MIN_BATCH, -1, 1, rows.size(1)).permute(0, 3, 1, 2)


def _rows(maps: Tensor) -> Tensor:
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.size(1))


def product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``rows @ weight.T + bias``.

    Args:
        rows: Shape (M, C).
        weight: Shape (K, C).
        bias: Shape (K,).

    Returns:
        Shape (M, K), contiguous.
    """
    if _by_convolution(rows):
        return _rows(F.conv2d(_map(rows), weight[:, :, None, None], bias))
    return F.linear(rows, weight, bias)


def product_gradients(upstream: Tensor, rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of :func:`product` for rows and weight, ``upstream @ weight, upstream.T @ rows``.

    Args:
        upstream: Shape (M, K).
        rows: Shape (M, C).
        weight: Shape (K, C).
    """
    if _by_convolution(rows):
        d_map, d_weight, _ = torch.ops.aten.convolution_backward(
            _map(upstream), _map(rows), weight[:, :, None, None], None,
            [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True, True, False],
        )  # fmt: skip
        return _rows(d_map), d_weight.flatten(1)
    return upstream @ weight, upstream.t() @ rows
