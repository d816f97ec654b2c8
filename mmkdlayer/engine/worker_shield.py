"""Keeps data workers alive when a scheduler signals every process of a job."""

from __future__ import annotations

import atexit
import os
import signal
import time
from collections.abc import Sequence
from multiprocessing.sharedctypes import RawValue
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.runner import IterBasedTrainLoop
from torch.utils.data import DataLoader

#: Seconds in which a data worker takes several SIGTERM for one.
TOGETHER = 30.0


def shield_workers(loop: Any, numbers: Sequence[signal.Signals]) -> None:
    """Let the data workers of a loop ignore signals: the main process decides when they end.

    A worker that dies of a signal would fail the training before it could save.

    Args:
        loop: Any loop or None; one without a DataLoader is left as it is.
        numbers: The signals.
    """
    loader = getattr(loop, 'dataloader', None)
    if not isinstance(loader, DataLoader):
        return
    loader.worker_init_fn = ShieldedWorkerInit(loader.worker_init_fn, numbers)
    if isinstance(loop, IterBasedTrainLoop):  # has started its workers already
        if isinstance(loader.sampler, InfiniteSampler):  # gave its first items to those workers
            loader.sampler.indices = loader.sampler._indices_of_rank()
        loop.dataloader_iterator = type(loop.dataloader_iterator)(loader)


class ShieldedWorkerInit:
    """A ``worker_init_fn`` whose worker ignores signals.

    Args:
        init: The loader's own ``worker_init_fn``, or None.
        numbers: The signals.
    """

    def __init__(self, init: Any, numbers: Sequence[signal.Signals]) -> None:
        self.init = init
        self.numbers = tuple(numbers)
        # Shared with the workers: multiprocessing ends those that are left at exit with SIGTERM, and
        # waits for them. atexit runs this before, since it is registered later.
        self.ending = RawValue('b', 0)
        self.first = 0.0
        atexit.register(setattr, self.ending, 'value', 1)

    def __call__(self, worker: int) -> None:
        """Ignore the signals, then do what the loader's own function does."""
        for number in self.numbers:
            ends_workers = number == signal.SIGTERM  # the loader, too, ends workers that hang by it
            signal.signal(number, self._ignore_at_first if ends_workers else signal.SIG_IGN)
        if self.init is not None:
            self.init(worker)

    def _ignore_at_first(self, number: int, frame: Any) -> None:
        if self.ending.value:
            os._exit(0)  # as torch's own handler in workers does
        # Scheduler and launcher may both send it.
        now = time.monotonic()
        self.first = self.first or now
        if now - self.first > TOGETHER:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(signal.Signals(number))
