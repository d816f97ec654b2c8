"""Signals that ask a training to end: noted while it trains, obeyed at once otherwise."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from typing import Any

#: The signals by which Slurm, and other launchers, ask a process to end.
SIGNALS = ('SIGTERM', 'SIGUSR1')
#: Exit code of a training that was asked to end and can be resumed (EX_TEMPFAIL of sysexits.h).
EXIT_CODE = 75


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
        reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._previous = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        # The default action would kill the process.
        self._handlers = {number: signal.signal(number, lambda *_: None) for number in numbers}
        # A forked process (a data worker) shares the socket, but its signals concern it alone.
        os.register_at_fork(after_in_child=self.stop)
        threading.Thread(target=self._watch, args=(reader,), daemon=True).start()
        return True

    def stop(self) -> None:
        """Restore the former handlers of the signals."""
        if not self._handlers:
            return
        signal.set_wakeup_fd(self._previous)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
        self._writer.close()  # ends the thread, which a forked process doesn't have

    def _watch(self, reader: socket.socket) -> None:
        with reader:
            while numbers := reader.recv(64):
                for number in set(numbers) & set(self.numbers):
                    self.received = signal.Signals(number)
                    if not self.deferring:
                        _end_at_once(self.received)


def _end_at_once(number: signal.Signals) -> None:
    if os.environ.get('RANK', '0') == '0':
        print(
            f'\n{number.name} received outside the training loop: ended with exit code {EXIT_CODE}. '
            'Start again with --resume; fitted decisions are kept.',
            file=sys.stderr,
            flush=True,
        )
    os._exit(EXIT_CODE)


#: The watch of this process: a process has one set of signal handlers.
WATCH = SignalWatch()
