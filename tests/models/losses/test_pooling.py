"""Means of cells against torch's adaptive pooling."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmkdlayer.models.losses.pooling import grid_means


@pytest.mark.parametrize('size', [(8, 8), (7, 7), (5, 6), (2, 3), (1, 1), (14, 9)])
@pytest.mark.parametrize('cells', [1, 2, 4])
def test_it_is_adaptive_average_pooling(size: tuple[int, int], cells: int) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = F.adaptive_avg_pool2d(x, cells).flatten(2)
    torch.testing.assert_close(grid_means(x, cells), expected)
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(grid_means(x.float(), cells), expected.float())
