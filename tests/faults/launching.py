"""Starts the processes of a distributed command, as torchrun does."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import Callable

#: Seconds that torchrun gives the others to end, once one has failed.
GRACE = 30.0


def launch(ranks: int, run: Callable[[], None]) -> int:
    """Run a function, which must end its process, once for each rank.

    Returns:
        The exit code of the first rank that failed, else 0. The others were told to end by SIGTERM,
        then by SIGKILL.
    """
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    running = set()
    for rank in range(ranks):
        pid = os.fork()
        if pid == 0:
            os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), RANK=str(rank))
            os.environ.update(WORLD_SIZE=str(ranks), LOCAL_RANK=str(rank))
            run()
        running.add(pid)
    code, patience = 0, float('inf')
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            time.sleep(0.01)
            if time.monotonic() > patience:
                _send(running, signal.SIGKILL)
            continue
        running.discard(pid)
        ended = os.waitstatus_to_exitcode(status)
        if ended and not code:
            code, patience = ended, time.monotonic() + GRACE
            _send(running, signal.SIGTERM)
    return code


def _send(processes: set[int], number: int) -> None:
    for pid in processes:
        os.kill(pid, number)
