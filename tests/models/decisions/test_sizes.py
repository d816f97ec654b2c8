"""A teacher's map at the student's size: larger, smaller, and both, against oracles."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.decisions.sizes import pool_to, resize_to


def pool_oracle(feature: Tensor, height: int, width: int) -> Tensor:
    """Average pooling whose windows run from floor(i H / h) to ceil((i + 1) H / h)."""
    images, channels, full_height, full_width = feature.shape
    pooled = torch.zeros(images, channels, height, width, dtype=torch.float64)
    for i in range(height):
        rows = range(i * full_height // height, math.ceil((i + 1) * full_height / height))
        for j in range(width):
            columns = range(j * full_width // width, math.ceil((j + 1) * full_width / width))
            for row in rows:
                for column in columns:
                    pooled[:, :, i, j] += feature[:, :, row, column].double()
            pooled[:, :, i, j] /= len(rows) * len(columns)
    return pooled


@pytest.mark.parametrize(
    ('full', 'size'), [((4, 4), (2, 2)), ((5, 7), (2, 3)), ((6, 4), (4, 3)), ((3, 5), (1, 1))]
)
def test_pooling_to_the_size_of_the_student(full, size):
    feature = torch.randn(2, 3, *full)
    pooled = pool_to(feature, size)
    torch.testing.assert_close(pooled.double(), pool_oracle(feature, *size), atol=1e-6, rtol=0)


@pytest.mark.parametrize('size', [None, (3, 2)])
def test_a_map_of_the_right_size_is_not_touched(size):
    feature = torch.randn(2, 3, 3, 2)
    assert pool_to(feature, size) is feature


@pytest.mark.parametrize('size', [(4, 4), (5, 2), (2, 5), (8, 6), (7, 5)])
def test_of_a_smaller_map_the_nearest_position_decides(size):
    feature = torch.randn(2, 3, 4, 3)
    found = resize_to(feature, size)
    pooled = pool_oracle(feature, min(4, size[0]), min(3, size[1]))
    for i in range(size[0]):
        for j in range(size[1]):
            rows = [
                abs((k + 0.5) / pooled.size(2) - (i + 0.5) / size[0]) for k in range(pooled.size(2))
            ]
            columns = [
                abs((k + 0.5) / pooled.size(3) - (j + 0.5) / size[1]) for k in range(pooled.size(3))
            ]
            # Where two are equally near, either is right.
            near_rows = [k for k, d in enumerate(rows) if d < min(rows) + 1e-9]
            near_columns = [k for k, d in enumerate(columns) if d < min(columns) + 1e-9]
            candidates = [pooled[:, :, row, column] for row in near_rows for column in near_columns]
            assert any(torch.allclose(found[:, :, i, j].double(), c, atol=1e-6) for c in candidates)
    assert pool_to(feature, size).shape[2:] == pooled.shape[2:]


def test_one_position_decides_nothing_about_regions():
    with pytest.raises(ConfigError, match=r'\(1, 1\), smaller than .*\(2, 2\): one decision'):
        resize_to(torch.zeros(2, 3, 1, 1), (2, 2))


@pytest.mark.parametrize('feature', [torch.zeros(2, 3), (torch.zeros(2, 3, 4, 4),)])
def test_a_feature_that_is_no_map_is_an_error(feature):
    with pytest.raises(ConfigError, match=r'expected a teacher feature map \(N, D, H, W\)'):
        pool_to(feature, None)
