"""Code in processes of its own that have imported what this one has: forks that import nothing."""

from __future__ import annotations

import io
import os
import runpy
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable

import torch
from tqdm import tqdm

SECONDS = 600  # then a fork is killed


class Forked:
    """A call in a fork of this process that runs beside it.

    It stands in for :class:`subprocess.Popen`. Output and errors are one stream, ``stdout``, unless
    ``output`` is the number of an open file for them. It is killed after :data:`SECONDS`.
    """

    returncode: int | None = None

    def __init__(self, call: Callable[[], object], output: int | None = None) -> None:
        reading, writing = os.pipe() if output is None else (-1, output)
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                code = _call(call, writing, writing)
            finally:
                os._exit(code)
        if output is None:
            os.close(writing)
            self.stdout = os.fdopen(reading, errors='replace')

    def poll(self) -> int | None:
        """As of Popen."""
        if self.returncode is None:
            number, status = os.waitpid(self.pid, os.WNOHANG)
            if number:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self) -> int:
        """As of Popen."""
        while (code := self.poll()) is None:
            time.sleep(0.02)
        return code

    def communicate(self, timeout: float = SECONDS) -> tuple[str, None]:
        """As of Popen, but that it is killed after the time.

        Raises:
            TimeoutError: That was not the end, as something that it has started writes on.
        """
        output: list[str] = []
        reader = threading.Thread(target=lambda: output.append(self.stdout.read()), daemon=True)
        reader.start()
        reader.join(timeout)
        if reader.is_alive():
            self.kill()
            reader.join(10)
        if not output:
            raise TimeoutError(f'Process {self.pid} has children that write on.')
        self.stdout.close()
        self.wait()
        return output[0], None

    def send_signal(self, number: int) -> None:
        """As of Popen."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """As of Popen."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """As of Popen."""
        self.send_signal(signal.SIGKILL)


def forked(*calls: Callable[[], object]) -> list[tuple[int, str, str]]:
    """Call functions in forks of this process, at the same time.

    Returns:
        For each the exit code (as of ``subprocess``, so -9 is SIGKILL), standard output and errors.
    """
    files = [(_file(), _file()) for _ in calls]
    pids = []
    for call, (output, errors) in zip(calls, files):
        pids.append(os.fork())
        if pids[-1] == 0:
            code = 1
            try:
                code = _call(call, output.fileno(), errors.fileno())
            finally:
                os._exit(code)  # without what the tests' process does at its end
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return [(code, _text(output), _text(errors)) for code, (output, errors) in zip(codes, files)]


def program(
    file: Path, line: Sequence[object] = (), environment: Mapping[str, str] | None = None
) -> Callable[[], None]:
    """A Python file with arguments and environment variables, to be called in a fork."""

    def run() -> None:
        os.environ.update(environment or {})
        sys.argv = [str(file), *map(str, line)]
        runpy.run_path(str(file), run_name='__main__')

    return run


_file = tempfile.TemporaryFile


def _text(file: io.BufferedRandom) -> str:
    with file:
        file.seek(0)
        return file.read().decode(errors='replace')


def _call(call: Callable[[], object], output: int, errors: int) -> int:
    os.dup2(output, 1)
    os.dup2(errors, 2)
    for number, name in ((1, 'stdout'), (2, 'stderr')):  # closing one closes no descriptor
        setattr(sys, name, os.fdopen(number, 'w', buffering=1, closefd=False))
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.alarm(SECONDS)
    torch.set_num_threads(1)  # OpenMP's other threads are not in a fork
    # All forks would share one semaphore, which one that is killed in a bar takes along for ever.
    tqdm.set_lock(threading.RLock())
    try:
        found = call()
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
    return found if isinstance(found, int) else 0
