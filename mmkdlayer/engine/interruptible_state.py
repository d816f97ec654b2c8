"""The state of a fitting that a signal may interrupt."""

from __future__ import annotations

from collections.abc import Mapping

from mmkdlayer.fitting import Fitter
from mmkdlayer.fitting.saved_state import Point, SavedState

from .signals import WATCH


class InterruptibleState(SavedState):
    """A SavedState that is saved when a signal comes, where :data:`WATCH` is started; then all ends.

    Within a pass of the teacher the batch is finished before. Outside, such as while k-means runs, the
    process ends at once: the state was saved at the end of the pass. Each rank ends for itself, since
    each has a point of its own that it resumes from.
    """

    def save_if_due(self, point: Point, fitters: Mapping[str, Fitter]) -> None:
        """As in SavedState; with a signal, save and end the process."""
        if WATCH.received is None:
            super().save_if_due(point, fitters)
            WATCH.deferring = True
        if WATCH.received is not None:
            self.save(point, fitters)

    def save(self, point: Point, fitters: Mapping[str, Fitter]) -> bool:
        """As in SavedState; end the process if a signal has come."""
        saved = super().save(point, fitters)
        WATCH.deferring = False  # the next batch defers again
        if WATCH.received is not None:
            state = 'the state is saved' if saved else 'the state could not be saved'
            WATCH.end(f'while it fitted: {state}, start again to continue')
        return saved
