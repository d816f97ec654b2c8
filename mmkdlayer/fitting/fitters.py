"""Feeds fitters from passes over the teacher."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sized
from contextlib import ExitStack
from typing import Any, Callable, Optional, Union

from torch import Tensor

from mmkdlayer.errors import DataError

from .distributed import errors_on_all_ranks
from .fitter import Fitter
from .progress import Progress, shown_by, stage
from .saved_state import Point, SavedState

Batches = Iterable[tuple[Union[Tensor, Mapping[str, Tensor]], Optional[Tensor]]]


def run_fitters(
    batches: Batches,
    fitters: Mapping[str, Fitter],
    progress: Optional[Progress] = None,
    on_result: Optional[Callable[[str, Any], None]] = None,
    saved: Optional[SavedState] = None,
) -> dict[str, Any]:
    """Fit several decisions from the same passes over the teacher.

    Args:
        batches: Gives (features, labels): features (B, D, H, W) by name, or alone where all fitters
            read the same ones; labels (B,), None where no fitter needs them. Iterated once for each
            pass, so it must give the same data every time. In a distributed run each rank gives its
            own share, of any size; no image may be on two ranks.
        fitters: Name of the features -> what is fitted on them.
        progress: Makes the bar of each stage, such as ``tqdm.tqdm``; None is silent.
        on_result: Called on every rank with name and decision as soon as a fitter's own last pass
            is over. It must not use collectives: its errors end all ranks.
        saved: Where the state is saved, and resumed from if it is that of these fitters; the result
            is that of an uninterrupted run. A decision that is finished is not in it: ``on_result``
            must have stored it, and its fitter is left out the next time. Batches that are done
            already are skipped, by ``batches.starting_at(number)`` if there is one.

    Returns:
        Name -> decision.

    Raises:
        DataError: The data does not give what a fitter needs; on all ranks if it does on one.
        SavedStateError: What was saved is damaged. It is dropped: start again, with new fitters.
    """
    results: dict[str, Any] = {}
    num_passes = max((fitter.num_passes for fitter in fitters.values()), default=0)
    with ExitStack() as stack:
        stack.enter_context(shown_by(progress))
        for fitter in fitters.values():
            stack.callback(fitter.close)
        number = len(batches) if isinstance(batches, Sized) else None
        for fitter in fitters.values():
            fitter.num_batches = number or 1
        start = Point() if saved is None else saved.resume(fitters, number)
        for index in range(start.pass_index, num_passes):
            active = {name: fit for name, fit in fitters.items() if index < fit.num_passes}
            if index > start.pass_index:
                start = Point(index)
                if saved is not None:
                    saved.begin_pass(index, active)
            _feed(batches, active, start, f'teacher pass {index + 1} of {num_passes}', saved)
            for name, fitter in active.items():
                decision = fitter.finish_pass(index)
                if decision is not None:
                    results[name] = decision
                    with errors_on_all_ranks():
                        if on_result is not None:
                            on_result(name, decision)
    return results


def _feed(
    batches: Batches,
    fitters: Mapping[str, Fitter],
    start: Point,
    desc: str,
    saved: Optional[SavedState],
) -> None:
    """Give fitters the batches of one pass, from ``start`` on."""
    index, done = start
    total = len(batches) if isinstance(batches, Sized) else None
    with errors_on_all_ranks(), stage(desc, total) as bar:
        bar.update(done)
        starting_at = getattr(batches, 'starting_at', None)
        rest = starting_at(done) if starting_at else itertools.islice(batches, done, None)
        for features, labels in rest:
            for name, fitter in fitters.items():
                own = features if isinstance(features, Tensor) else features.get(name)
                if own is None:
                    raise DataError(
                        f'No teacher features with the name {name!r} in a batch; it has '
                        f'{", ".join(map(repr, features))}. Name the fitters as the features.'
                    )
                fitter.update(index, own, labels)
            done += 1
            bar.update(1)
            if saved is not None:
                saved.save_if_due(Point(index, done), fitters)
        if saved is not None:
            saved.save(Point(index, done), fitters)
