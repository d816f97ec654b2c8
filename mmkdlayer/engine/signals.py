"""Signals that ask a command to end: noted while it trains or fits, obeyed at once otherwise."""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

#: The signals by which Slurm, and other launchers, ask a process to end.
SIGNALS = ('SIGTERM', 'SIGUSR1')
#: Exit code of a training that was asked to end and can be resumed (EX_TEMPFAIL of sysexits.h).
EXIT_CODE = 75
#: Exit code after Ctrl-C, that of shells: nobody asked for another start.
INTERRUPTED = 128 + signal.SIGINT
#: Seconds in which Ctrl-C is taken for one: a launcher passes on what the terminal has sent as well.
TOGETHER = 1.0


class SignalWatch:
    """A thread that learns of signals even while the main thread waits in compiled code.

    While :attr:`deferring` is true a signal is kept in :attr:`received`; otherwise the process ends
    with :attr:`exit_code` at once. A process that waits for another rank, in a collective, could not do
    so from an ordinary Python handler. SIGINT (Ctrl-C) is watched with the others, unless it is ignored,
    as in the background of a shell; a second one always ends the process at once.
    """

    def __init__(self) -> None:
        self.numbers: tuple[signal.Signals, ...] = ()
        self.deferring = False
        self.received: signal.Signals | None = None
        self._pressed = math.inf  # when Ctrl-C came first
        self._handlers: dict[signal.Signals, Any] = {}

    @property
    def exit_code(self) -> int:
        """:data:`INTERRUPTED` where Ctrl-C has come, else :data:`EXIT_CODE`."""
        return INTERRUPTED if self.received == signal.SIGINT else EXIT_CODE

    def start(self, names: Sequence[str]) -> bool:
        """Begin to watch for signals, such as ``'SIGTERM'``, unless that was begun before.

        Returns:
            Whether they are watched: False without any, and outside the main thread, which alone can.

        Raises:
            KeyError: There is no such signal.
        """
        numbers = [signal.Signals[name] for name in names]
        if not numbers or threading.current_thread() is not threading.main_thread():
            return False
        if self._handlers:
            return True
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            numbers.append(signal.SIGINT)
        self.numbers, self.received, self.deferring = tuple(numbers), None, False
        self._pressed = math.inf
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
        """Restore the former handlers; where a signal has come, another one ends the process at once."""
        if not self._handlers:
            return
        signal.set_wakeup_fd(self._previous)
        code = self.exit_code
        for number, handler in self._handlers.items():
            # The work is saved: no traceback, nor another exit code, of what is cleaned up just now.
            signal.signal(number, (lambda *_: os._exit(code)) if self.received else handler)
        self._handlers, self.numbers = {}, ()
        self._writer.close()  # ends the thread, which a forked process doesn't have

    def end(self, state: str) -> None:
        """End the process without cleaning up, with :attr:`exit_code`; the first rank says why.

        ``state`` is what becomes of the work so far, as a part of a sentence.
        """
        if os.environ.get('RANK', '0') == '0':
            name = self.received.name if self.received else 'A signal'
            text = f'\n{name} received {state}: ended with exit code {self.exit_code}.'
            print(text, file=sys.stderr, flush=True)
        os._exit(self.exit_code)

    def _watch(self, reader: socket.socket) -> None:
        with reader:
            while numbers := reader.recv(64):
                for number in numbers:
                    if number in self.numbers:
                        self._receive(signal.Signals(number))

    def _receive(self, number: signal.Signals) -> None:
        if number == signal.SIGINT:
            now = time.monotonic()
            if now - self._pressed > TOGETHER:
                self.received = number
                self.end('again')
            self._pressed = min(self._pressed, now)
        is_first, self.received = self.received is None, self.received or number
        if not self.deferring:
            self.end(
                'outside the training loop (start again, with --resume in training, to continue; what '
                'was fitted is kept)'
            )
        if is_first and number == signal.SIGINT and os.environ.get('RANK', '0') == '0':
            text = '\nCtrl-C: saves as soon as it can, then ends. Press it again to end at once.'
            print(text, file=sys.stderr, flush=True)


#: The watch of this process: a process has one set of signal handlers.
WATCH = SignalWatch()
