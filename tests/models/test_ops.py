"""Products by convolution are products; checks."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from normal_numbers import NoSubnormals

from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.models import ops
from mmkdlayer.models.ops import MKLDNN_MIN_BATCH as BATCH
from mmkdlayer.models.ops import (
    _by_convolution,
    _convolutions_are_faster,
    add_product,
    add_product_gradients,
    check_precision,
    product,
    product_gradients,
    require,
    softmax,
    softmax_and_logs,
)


@pytest.mark.parametrize('count', [1, 7, BATCH, 4 * BATCH, 4 * BATCH + 3])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('strided', [False, True])
@pytest.mark.parametrize('by_convolution', [False, True])
def test_against_float64(
    count: int,
    dtype: torch.dtype,
    strided: bool,
    by_convolution: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ops, '_convolutions_are_faster', lambda: by_convolution)
    rows, upstream = torch.randn(count, 5, dtype=dtype), torch.randn(count, 9, dtype=dtype)
    weight, bias = torch.randn(9, 5, dtype=dtype), torch.randn(9, dtype=dtype)
    if strided:  # tiles of larger matrices
        rows = torch.cat([rows, rows], 1)[:, :5]
        upstream = torch.cat([upstream, upstream], 1)[:, 9:]
        weight = torch.cat([weight, weight], 1)[:, 5:]
    found = (product(rows, weight, bias), product(rows, weight))
    found += product_gradients(upstream, rows, weight)
    plain = rows.double() @ weight.double().t()
    expected = (
        plain + bias,
        plain,
        upstream.double() @ weight.double(),
        upstream.double().t() @ rows.double(),
    )
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for value, other in zip(found, expected):
        assert value.dtype == dtype and value.is_contiguous()
        torch.testing.assert_close(value.double(), other.double(), atol=tolerance, rtol=tolerance)
    d_weight = torch.empty_like(expected[3], dtype=dtype)
    sums = (
        add_product(found[1], rows, weight),
        add_product_gradients(found[2], d_weight, upstream, rows, weight),
        d_weight,
    )
    for value, other in zip(sums, (2 * plain, 2 * expected[2], expected[3])):
        torch.testing.assert_close(value.double(), other, atol=2 * tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    ('known', 'faster'),
    [
        ('vendor_id : AuthenticAMD\nflags : avx2 avx512f', True),
        ('vendor_id : AuthenticAMD\nflags : avx2', False),
        ('vendor_id : GenuineIntel\nflags : avx2 avx512f', False),
        (None, False),
    ],
)
def test_convolutions_are_used_where_they_are_faster(
    known: str | None, faster: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / 'cpuinfo'
    if known is not None:
        file.write_text(known)
    assert _convolutions_are_faster(file) == (faster and torch.backends.mkldnn.is_available())
    monkeypatch.setattr(ops, '_convolutions_are_faster', lambda: faster)
    rows = torch.randn(4 * BATCH, 5)
    assert _by_convolution(rows) == faster
    assert not _by_convolution(rows.double()) and not _by_convolution(rows.to('meta'))


def test_a_condition_that_does_not_hold_is_an_error() -> None:
    require(torch.tensor(True), 'unused', lambda: 'unused')
    with pytest.raises(DataError, match=r'^x must be 1, but got 2\.$'):
        require(torch.tensor(False), 'x must be 1', lambda: '2')
    require(torch.tensor(False, device='meta'), 'nothing can be asked there', lambda: '')


def test_unknown_precision() -> None:
    assert check_precision('KDLayerConnector', 'tf32') == 'tf32'
    with pytest.raises(ConfigError, match="'float32' or 'tf32', but got 'fast'"):
        check_precision('KDLayerConnector', 'fast')


@pytest.mark.parametrize(
    ('least', 'largest'), [(-3, 3), (-29, 29), (-50, 50), (-3000, 0), (0, 3000), (1e4, 1.00001e4)]
)
@pytest.mark.parametrize('bounded', [False, True])
def test_probabilities_are_those_of_the_exponential_function(
    least: float, largest: float, bounded: bool
) -> None:
    logits = least + (largest - least) * torch.rand(20, 50)
    rows = logits.double().tolist()
    powers = [[math.exp(v - max(row)) for v in row] for row in rows]
    expected = torch.tensor([[p / math.fsum(row) for p in row] for row in powers]).double()
    totals = [[max(row) + math.log(math.fsum(p))] for row, p in zip(rows, powers)]
    expected_logs = logits.double() - torch.tensor(totals, dtype=torch.float64)
    if bounded:
        expected_logs.clamp_min_(-60)
    before, out = logits.clone(), torch.empty(20, 50)
    with NoSubnormals():
        found = softmax(logits, out=out)
        again, logs, offset = softmax_and_logs(logits, torch.empty(20, 50), bounded)
    assert found.data_ptr() == out.data_ptr()
    assert torch.equal(logits, before)
    assert offset is not None
    for q in (found, again):
        torch.testing.assert_close(q.double(), expected, atol=1e-6, rtol=1e-4)
    near = (logs - offset).double().clamp_min(-60 if bounded else -math.inf)
    torch.testing.assert_close(near, expected_logs, atol=4e-6, rtol=1e-6)


def test_scores_near_zero_are_not_copied() -> None:
    for size, same in ((29, True), (31, False)):
        for sign in (1, -1):
            logits = torch.tensor([[0.0, 1.0, sign * size]])
            _, logs, _ = softmax_and_logs(logits)
            assert (logs is logits) == same


@pytest.mark.parametrize('device', ['cpu', 'meta'])
def test_no_rows_at_all(device: str) -> None:
    q, logs, _ = softmax_and_logs(torch.empty(0, 5, device=device))
    assert q.shape == logs.shape == softmax(torch.empty(0, 5, device=device)).shape == (0, 5)


def test_logits_that_are_not_finite_stay_visible() -> None:
    for value in (math.nan, math.inf):
        q, logs, offset = softmax_and_logs(torch.tensor([[0.0, value], [1.0, 2.0]]))
        assert offset is not None
        assert q[0].isnan().any() and (logs - offset)[0].isnan().any()
        assert q[1].isfinite().all()
