"""Code in a process of its own that has imported what this one has: a fork, without seconds of imports."""

from __future__ import annotations

import io
import os
import signal
import sys
import tempfile
import traceback
from typing import Callable

import torch


def forked(call: Callable[[], object]) -> tuple[int, str, str]:
    """Call a function in a fork of this process.

    Returns:
        The exit code (as of ``subprocess``, so -9 is SIGKILL), standard output and standard error.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = _call(call, output.fileno(), errors.fileno())
            finally:
                os._exit(code)  # without what the tests' process does at its end
        _, status = os.waitpid(pid, 0)
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode(errors='replace'))
    return os.waitstatus_to_exitcode(status), texts[0], texts[1]


def _call(call: Callable[[], object], output: int, errors: int) -> int:
    os.dup2(output, 1)
    os.dup2(errors, 2)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(open(fd, 'wb', 0), write_through=True) for fd in (1, 2)
    )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
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
    return 0
