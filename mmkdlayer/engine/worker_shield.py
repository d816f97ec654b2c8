"""Data workers live as long as their process: a scheduler's signals do not end them before."""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from collections.abc import Sequence
from multiprocessing import parent_process
from multiprocessing.sharedctypes import RawValue
from typing import Any

from torch.utils.data import DataLoader

SECONDS_BETWEEN_LOOKS = 2.0


def shield_workers(loader: Any, numbers: Sequence[signal.Signals]) -> None:
    """Let the data workers of a loader ignore signals: the main process decides when they end.

    A worker that dies of a signal would fail the main process before it could save. When the main
    process is killed, its workers end too: torch's would wait for ever where the pipe is full of
    batches that nobody takes any more. The loader has not started its workers; what is no DataLoader
    is left as it is.
    """
    if isinstance(loader, DataLoader):
        loader.worker_init_fn = ShieldedWorkerInit(loader.worker_init_fn, numbers)


class ShieldedWorkerInit:
    """A ``worker_init_fn`` whose worker ignores signals, around the loader's own, if it has one."""

    def __init__(self, init: Any, numbers: Sequence[signal.Signals]) -> None:
        self.init = init
        self.numbers = tuple(numbers)
        # Shared with the workers: multiprocessing ends those that are left at exit with SIGTERM, and
        # waits for them. atexit runs this before, since it is registered later.
        self.ending = RawValue('b', 0)
        atexit.register(setattr, self.ending, 'value', 1)

    def __call__(self, worker: int) -> None:
        """Ignore the signals, watch the main process, then do what the loader's own function does."""
        main = parent_process()
        if main is not None:
            threading.Thread(target=_end_with, args=(main.pid,), daemon=True).start()
        for number in self.numbers:
            signal.signal(number, self._ignore)
        if self.init is not None:
            self.init(worker)

    def _ignore(self, number: int, frame: Any) -> None:
        if number == signal.SIGTERM and self.ending.value:
            os._exit(0)  # as torch's own handler in workers does


def _end_with(process: int) -> None:
    while os.getppid() == process:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)
