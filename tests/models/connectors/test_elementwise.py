"""The element-wise parts against their formulas in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmkdlayer.models.connectors import elementwise

M, T = 13, 5


def columns(*shape: int) -> Tensor:
    """A view of columns of a wider matrix, as the tiles of scores are."""
    return torch.randn(shape[0], 3 * shape[1])[:, shape[1] : 2 * shape[1]]


def close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('device', ['cpu', 'meta'])
def test_shapes_of_mean_and_variance(device: str) -> None:
    found = elementwise.mean_and_variance(columns(M, T).to(device))
    assert [tuple(value.shape) for value in found] == [(T,), (T,)]


@pytest.mark.parametrize('center', [0.0, 300.0])
def test_mean_and_variance_far_from_zero(center: float) -> None:
    s = columns(M, T) + center
    mean, var = elementwise.mean_and_variance(s)
    s = s.double()
    torch.testing.assert_close(mean.double(), s.mean(0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(var.double(), s.var(0, unbiased=False), rtol=1e-4, atol=0)


@pytest.mark.parametrize('in_place', [False, True])
def test_assign(in_place: bool) -> None:
    s, slope, offset = columns(M, T), torch.randn(T), torch.randn(T)
    expected = (s.double() * slope + offset).clamp(min=0)
    given = s.clone()
    close(elementwise.assign(given, slope, offset, given if in_place else None), expected)
    assert torch.equal(given, s) != in_place
    given = s.clone()
    p, squares = elementwise.assign_with_squares(given, slope, offset, given if in_place else None)
    close(p, expected)
    close(squares, expected.square().sum(1))


def test_masked_gradient() -> None:
    d_p, s, p, factor = torch.randn(M, T), columns(M, T), columns(M, T).relu(), torch.randn(M)
    expected = (d_p.double() - p * factor[:, None].double()) * (p > 0)
    g, total, weighted = elementwise.masked_gradient(
        d_p.clone(), p.clone(memory_format=torch.contiguous_format), s, factor
    )
    close(g, expected)
    close(total, expected.sum(0))
    close(weighted, (s * expected).sum(0))


@pytest.mark.parametrize('batch_statistics', [False, True])
@pytest.mark.parametrize('with_loss', [False, True])
def test_score_gradient(batch_statistics: bool, with_loss: bool) -> None:
    g, s, loss = torch.randn(M, T), columns(M, T), columns(M, T)
    slope, tilt, shift = torch.randn(3, T)
    expected = (g.double() + (s * tilt - shift) * batch_statistics) * slope + loss * with_loss
    kept = loss.clone()
    found = elementwise.score_gradient(
        g.clone(),
        s,
        slope,
        tilt if batch_statistics else None,
        shift if batch_statistics else None,
        loss if with_loss else None,
    )
    close(found, expected)
    assert found.is_contiguous() and torch.equal(loss, kept)
