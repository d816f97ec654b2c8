"""Pooling of teacher maps, and checks of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.models.decisions.inputs import pool_to, require


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


@pytest.mark.parametrize('size', [(4, 4), (5, 2), (2, 5)])
def test_a_teacher_map_that_is_smaller_is_an_error_that_names_both(size):
    with pytest.raises(ConfigError, match=rf'\(4, 3\).*smaller.*\({size[0]}, {size[1]}\)'):
        pool_to(torch.zeros(2, 3, 4, 3), size)


@pytest.mark.parametrize('feature', [torch.zeros(2, 3), (torch.zeros(2, 3, 4, 4),)])
def test_a_feature_that_is_no_map_is_an_error(feature):
    with pytest.raises(ConfigError, match=r'expected a teacher feature map \(N, D, H, W\)'):
        pool_to(feature, None)


def test_a_condition_that_does_not_hold_is_an_error():
    require(torch.tensor(True), lambda: 'unused')
    with pytest.raises(DataError, match='^what is wrong$'):
        require(torch.tensor(False), lambda: 'what is wrong')
    require(torch.tensor(False, device='meta'), lambda: 'nothing can be asked there')
