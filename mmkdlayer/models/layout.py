"""Feature maps as rows, one for each position."""

from __future__ import annotations

from torch import Tensor


def rows_of(maps: Tensor) -> Tensor:
    """(N, K, H, W) as (N*H*W, K): a view where the map is in channels-last order."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.size(1))


def maps_of(rows: Tensor, like: Tensor) -> Tensor:
    """(N*H*W, K) as (N, K, H, W) in channels-last order, for the N, H, W of another map."""
    images, _, height, width = like.shape
    return rows.view(images, height, width, rows.size(1)).permute(0, 3, 1, 2)
