"""Data workers when every process of a job gets a signal, and when their process is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forked import forked
from torch.utils.data import DataLoader

from mmkdlayer.engine import worker_shield
from mmkdlayer.engine.worker_shield import ShieldedWorkerInit, shield_workers


def test_data_worker_outlives_signals() -> None:
    def worker() -> None:
        seen: list[int] = []
        init = ShieldedWorkerInit(seen.append, (signal.SIGTERM, signal.SIGUSR1))
        init(7)
        for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
        print(seen, flush=True)
        init.ending.value = 1
        os.kill(os.getpid(), signal.SIGTERM)  # at exit, by multiprocessing: it ends
        time.sleep(20)

    assert forked(worker) == [(0, '[7]\n', '')]


@pytest.mark.skipif(not Path('/proc/self').exists(), reason='looks at processes in /proc')
def test_workers_end_with_a_process_that_is_killed() -> None:
    """Also where the pipe is full of batches, at whose writing they would wait for ever."""

    def program() -> None:
        loader = DataLoader([bytes(2**20)] * 9, num_workers=2, collate_fn=list)
        shield_workers(loader, [])
        batches = iter(loader)
        next(batches)
        print(*(worker.pid for worker in batches._workers), flush=True)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    ((code, output, _),) = forked(program)
    workers = list(map(int, output.split()))
    assert code == -signal.SIGKILL and len(workers) == 2
    end = time.monotonic() + 60
    while any(Path(f'/proc/{worker}').exists() for worker in workers):
        assert time.monotonic() < end
        time.sleep(0.1)


LEFT_WORKERS = """
import signal
from torch.utils.data import DataLoader
from worker_shield import ShieldedWorkerInit  # alone: the package takes seconds to import
init = ShieldedWorkerInit(None, [signal.SIGTERM])
loader = DataLoader(range(100), num_workers=1, worker_init_fn=init, persistent_workers=True)
batches = iter(loader)
loader.cycle = next(batches), batches, loader
"""


def test_workers_that_are_left_do_not_keep_the_process() -> None:
    command = [sys.executable, '-c', LEFT_WORKERS]
    env = dict(os.environ, PYTHONPATH=str(Path(worker_shield.__file__).parent))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert (done.returncode, done.stderr) == (0, '')
