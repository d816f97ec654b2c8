"""Average pooling of maps to grids, with a gradient that is the same each time."""

from __future__ import annotations

import torch
from torch import Tensor

from mmkdlayer.precision import float32_products


def grid_means(feature: Tensor, cells: int) -> Tensor:
    """Means of a map's cells, as of torch's ``adaptive_avg_pool2d``: (N, C, cells * cells), row by row.

    As a matrix product, because the gradient of torch's function is not deterministic on CUDA. The map
    (N, C, H, W) is in float32 or better.
    """
    rows, columns = (_windows(feature, size, cells) for size in feature.shape[2:])
    with float32_products(feature.device):
        return feature.flatten(2) @ torch.kron(rows, columns).t()


def _windows(like: Tensor, size: int, cells: int) -> Tensor:
    """Weights (cells, size) of the positions in each cell; where cells don't divide, they overlap."""
    cell = torch.arange(cells, device=like.device)[:, None]
    place = torch.arange(size, device=like.device)
    inside = (place >= cell * size // cells) & (place * cells < (cell + 1) * size)
    return inside.to(like.dtype) / inside.sum(1, keepdim=True)
