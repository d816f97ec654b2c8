"""Runs a command of tools/ in a forked process: the slow imports are done once, by the parent."""

from __future__ import annotations

import atexit
import faulthandler
import gc
import importlib
import os
import runpy
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional

from .job import COMMANDS, RANKS
from .launching import launch

ROOT = Path(__file__).resolve().parents[2]
#: Seconds after which a command hangs: a hundred times what it needs on an idle machine.
TIMEOUT = 240.0
#: What the commands import, and their parent before them.
IMPORTS = (
    *('mmkdlayer', 'mmpretrain', 'mmpretrain.apis', 'mmrazor.models', 'mmrazor.engine'),
    *('mmkdlayer.engine', 'mmkdlayer.deploy', 'mmkdlayer.fitting', 'torch.utils.data'),
)


@dataclass
class Ended:
    """How a command ended.

    Attributes:
        code: Its exit code; the negative number of the signal that killed it.
        output, errors: What it wrote to its two streams.
        hung: It had to be killed, after :data:`TIMEOUT`.
        left: Numbers of processes that it has left running.
    """

    code: int
    output: str
    errors: str
    hung: bool = False
    left: list[int] = field(default_factory=list)


def preload() -> None:
    """Import what the commands need."""
    os.environ.update(OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore')
    sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
    for name in IMPORTS:
        importlib.import_module(name)
    importlib.import_module('cli')
    import torch

    torch.set_num_threads(1)
    gc.freeze()


class Child:
    """A command that runs; ``logs`` gets its output, as ``<logs>.out`` and ``<logs>.err``."""

    def __init__(
        self, folder: Path, command: str, logs: Path, arm: Optional[Callable[[], object]] = None
    ) -> None:
        self.logs = logs
        for end in ('.out', '.err'):
            logs.with_suffix(end).write_text('')
        self.started = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become(folder, command, logs, arm)
        self.code: Optional[int] = None

    def poll(self) -> Optional[int]:
        """The exit code, or None while it runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def send(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def sleep_until(self, seconds: float) -> None:
        """Wait until it has run so long, or has ended."""
        while self.poll() is None and time.monotonic() - self.started < seconds:
            time.sleep(0.003)

    def wait(self) -> Ended:
        """Wait for the end, and for that of its own processes."""
        self.sleep_until(TIMEOUT)
        hung = self.poll() is None
        patience = time.monotonic() + 20  # data workers look for their parent every 5 seconds
        while not hung and (left := members(self.pid)) and time.monotonic() < patience:
            time.sleep(0.1)
        left = [pid for pid in members(self.pid) if pid != self.pid]
        self.kill()
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]) if hung else self.code
        texts = [self.logs.with_suffix(end).read_text(errors='replace') for end in ('.out', '.err')]
        return Ended(code or 0, *texts, hung, left)

    def kill(self) -> None:
        """End it, and all that it has started."""
        if members(self.pid):
            os.killpg(self.pid, signal.SIGKILL)


def members(group: int) -> list[int]:
    """The living processes of a process group."""
    found = []
    for entry in os.scandir('/proc'):
        if entry.name.isdigit():
            try:
                state, _, own = Path(entry.path, 'stat').read_text().rpartition(')')[2].split()[:3]
            except (OSError, ValueError):
                continue  # it has just ended
            if int(own) == group and state not in 'ZX':
                found.append(int(entry.name))
    return found


def _become(folder: Path, command: str, logs: Path, arm: Optional[Callable[[], object]]) -> None:
    """In the forked process: run a command as ``python tools/...`` would, then end."""
    code, line = 1, COMMANDS[command]
    try:
        os.setsid()
        os.chdir(folder)
        for end, stream in (('.out', 1), ('.err', 2)):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
            os.dup2(os.open(logs.with_suffix(end), flags, 0o644), stream)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if command in RANKS:
            code = launch(RANKS[command], lambda: _run_and_end(line, arm))
        else:
            _run_and_end(line, arm)
        if code < 0:
            os.kill(os.getpid(), -code)
    finally:
        os._exit(code % 256)


def _run_and_end(line: Sequence[str], arm: Optional[Callable[[], object]]) -> None:
    """Run a command, and end the process with its exit code."""
    code = 1
    try:
        faulthandler.enable()
        faulthandler.dump_traceback_later(TIMEOUT - 5)
        sys.argv = list(line)
        if arm is not None:
            arm()
        code = _run(str(ROOT / 'tools' / line[0]))
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                code = code or 120  # as Python ends then
        os._exit(code)


def _run(script: str) -> int:
    """Run a script; the exit code that Python would give."""
    try:
        runpy.run_path(script, run_name='__main__')
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        traceback.print_exc()
        return 130
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
