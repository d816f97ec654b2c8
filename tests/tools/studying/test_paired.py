from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from studying.paired import compare, quantile, summarise


@pytest.mark.parametrize('degrees', [1, 2, 4, 9, 30, 31, 60, 1000])
def test_quantiles_are_those_of_scipy(degrees: int) -> None:
    assert quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=1e-4)


@pytest.mark.parametrize('count', [2, 3, 5, 40])
def test_interval_is_that_of_a_paired_t_test(count: int) -> None:
    rng = np.random.default_rng(count)
    first, second = rng.normal(70, 1, count), rng.normal(69, 1, count)
    # One seed more on each side, which has no partner.
    found = compare(
        {**dict(enumerate(first.tolist())), 98: 1.0}, {**dict(enumerate(second.tolist())), 99: 9.0}
    )
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert found is not None and found.margin is not None and found.n == count
    assert found.mean - found.margin == pytest.approx(expected.low, abs=1e-3)
    assert found.mean + found.margin == pytest.approx(expected.high, abs=1e-3)
    assert found.is_clear == (stats.ttest_rel(first, second).pvalue < 0.05)


def test_summary_is_mean_and_sample_deviation() -> None:
    values = [70.25, 71.5, 69.0]
    found = summarise(values)
    assert found is not None and found.deviation is not None
    assert (found.n, found.mean) == (3, pytest.approx(np.mean(values)))
    assert found.deviation == pytest.approx(np.std(values, ddof=1))


def test_one_run_has_no_deviation_and_none_no_mean() -> None:
    assert summarise([70.0]) == (1, 70.0, None)
    assert summarise([]) is None
    assert compare({0: 1.0}, {1: 2.0}) is None
    one = compare({0: 71.0}, {0: 70.0})
    assert one == (1, 1.0, None) and not one.is_clear
