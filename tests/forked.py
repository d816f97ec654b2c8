"""Code in processes of its own that have imported what this one has: forks that import nothing."""

from __future__ import annotations

import io
import os
import runpy
import signal
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable

import torch

SECONDS = 300  # then a fork is killed


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
    sys.stdout, sys.stderr = (os.fdopen(number, 'w', buffering=1) for number in (1, 2))
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.alarm(SECONDS)
    torch.set_num_threads(1)  # OpenMP's other threads are not in a fork
    try:
        call()
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
    return 0
