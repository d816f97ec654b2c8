"""A fitting that a signal interrupts saves its state first."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mmkdlayer.engine.interruptible_state import InterruptibleState
from mmkdlayer.engine.signals import WATCH
from mmkdlayer.fitting import CentroidFitter, run_fitters
from mmkdlayer.fitting.saved_state import Point, SavedState


class Ended(BaseException):
    """In the place of the end of the process."""


class Batches:
    """Four batches; a signal comes while one of them (from 0) is made."""

    def __init__(self, number: signal.Signals, at: int) -> None:
        self.number, self.at = number, at

    def __iter__(self) -> Iterator[tuple[torch.Tensor, None]]:
        generator = torch.Generator().manual_seed(0)
        for index in range(4):
            if index == self.at:
                WATCH._receive(self.number)
            yield torch.randn(3, 5, 2, 2, generator=generator), None


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, str]]]:
    """Exit codes and reasons of the ends."""
    ends: list[tuple[int, str]] = []

    def end(reason: str) -> None:
        ends.append((WATCH.exit_code, reason))
        raise Ended

    monkeypatch.setattr(WATCH, 'end', end)
    yield ends
    WATCH.received, WATCH.deferring, WATCH._pressed = None, False, math.inf


def fit(folder: Path, batches: Any, kind: type[SavedState] = InterruptibleState) -> torch.Tensor:
    fitters = {'penult': CentroidFitter(4, streaming_passes=1)}
    found = run_fitters(batches, fitters, None, None, kind(folder, 'mine', 3600))
    return found['penult'].centroids


@pytest.mark.parametrize(
    ('number', 'at', 'code', 'point'),
    [
        (signal.SIGTERM, 2, 75, Point(0, 3)),
        (signal.SIGINT, 1, 130, Point(0, 2)),
        (signal.SIGUSR1, 3, 75, Point(0, 4)),
        (signal.SIGTERM, 0, 75, Point(0, 0)),  # nothing is done yet
    ],
    ids=str,
)
def test_the_state_is_saved(
    number: signal.Signals, at: int, code: int, point: Point, tmp_path: Path, said: list
) -> None:
    expected = fit(tmp_path / 'whole', Batches(number, -1), SavedState)
    (tmp_path / 'parts').mkdir()
    with pytest.raises(Ended):
        fit(tmp_path / 'parts', Batches(number, at))
    assert [end[0] for end in said] == [code]
    assert ('the state is saved' in said[0][1]) == (at > 0)
    WATCH.received, WATCH._pressed = None, math.inf
    state = SavedState(tmp_path / 'parts', 'mine')
    assert state.resume({'penult': CentroidFitter(4, streaming_passes=1)}) == point
    assert torch.equal(fit(tmp_path / 'parts', Batches(number, -1)), expected)
    assert not WATCH.deferring  # a signal ends the k-means at once
