"""Signals that ask a training to end: noted while it trains, obeyed at once while it does not."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.sharedctypes import RawValue
from typing import Any

#: The signals by which Slurm, and other launchers, ask a process to end.
SIGNALS = ('SIGTERM', 'SIGUSR1')
#: Exit code of a training that was asked to end and can go on (EX_TEMPFAIL of sysexits.h).
EXIT_CODE = 75


def _do_nothing(number: int, frame: Any) -> None:
    """Stand in for a signal's default action, which would kill the process."""


class SignalWatch:
    """A thread that learns of signals even while the main thread waits in compiled code.

    While :attr:`deferring` is true a signal is kept in :attr:`received`; otherwise the process ends with
    :data:`EXIT_CODE` at once. A process that waits for another rank, in a collective, could not do so
    from an ordinary Python handler.
    """

    def __init__(self) -> None:
        self.numbers: tuple[signal.Signals, ...] = ()
        self.deferring = False
        self.received: signal.Signals | None = None
        self._process = 0
        self._handlers: dict[signal.Signals, Any] = {}

    def start(self, names: Sequence[str]) -> bool:
        """Begin to watch for signals, unless that was begun before.

        Args:
            names: Such as ``'SIGTERM'``.

        Returns:
            Whether they are watched: False without any, and outside the main thread, which alone can.

        Raises:
            KeyError: There is no such signal.
        """
        numbers = tuple(signal.Signals[name] for name in names)
        if not numbers or threading.current_thread() is not threading.main_thread():
            return False
        if self._handlers:
            return self.numbers == numbers
        self.numbers, self.received, self.deferring = numbers, None, False
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._previous = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, _do_nothing) for number in self.numbers}
        self._process = os.getpid()
        # A forked process (a data worker) shares the socket: its signals are its own affair.
        os.register_at_fork(after_in_child=self.stop)
        threading.Thread(target=self._watch, args=(self._reader,), daemon=True).start()
        return True

    def stop(self) -> None:
        """Give the signals their former handlers back."""
        if not self._handlers:
            return
        signal.set_wakeup_fd(self._previous)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
        if os.getpid() == self._process:
            self._writer.close()  # ends the thread

    def _watch(self, reader: socket.socket) -> None:
        with reader:
            while numbers := reader.recv(64):
                for number in numbers:
                    if number in self.numbers:
                        self._note(signal.Signals(number))

    def _note(self, number: signal.Signals) -> None:
        self.received = number
        if not self.deferring:
            if os.environ.get('RANK', '0') == '0':
                print(
                    f'\n{number.name} received outside the training loop: ended with exit code '
                    f'{EXIT_CODE}. Start again with --resume; decisions that are fitted are kept.',
                    file=sys.stderr,
                    flush=True,
                )
            os._exit(EXIT_CODE)


#: The watch of this process: signals are the process's, not an object's.
WATCH = SignalWatch()


#: Seconds in which a data worker takes several SIGTERM for one.
TOGETHER = 30.0


class ShieldedWorkerInit:
    """A ``worker_init_fn`` whose worker ignores signals: the main process decides when it ends.

    Slurm signals every process of a job. A data worker that dies of it would fail the training before
    it could save.

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
            signal.signal(
                number, self._ignore_at_first if number == signal.SIGTERM else signal.SIG_IGN
            )
        if self.init is not None:
            self.init(worker)

    def _ignore_at_first(self, number: int, frame: Any) -> None:
        if self.ending.value:
            os._exit(0)  # as torch's own handler in workers does
        # Scheduler and launcher may both send it. The loader, too, ends workers that hang by it.
        now = time.monotonic()
        self.first = self.first or now
        if now - self.first > TOGETHER:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(signal.Signals(number))
