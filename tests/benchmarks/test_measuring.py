"""The clock of the benchmarks."""

from __future__ import annotations

import itertools

from measuring import interleaved


def test_median_of_each_case_by_the_clock_that_is_given() -> None:
    now, lengths = [0.0], itertools.count(1)

    def long() -> None:
        now[0] += 10 * next(lengths)

    def short() -> None:
        now[0] += 0.5

    found = interleaved(dict(long=long, short=short), 3, warmup=1, clock=lambda: now[0])
    assert found == dict(long=30.0, short=0.5)  # the first call warms up: 20, 30, 40
