"""Data workers when every process of a job gets a signal."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)


WORKER = """
import os, signal, time
from mmkdlayer.engine import worker_shield
seen = []
init = worker_shield.ShieldedWorkerInit(seen.append, (signal.SIGTERM, signal.SIGUSR1))
init(7)
for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM):
    os.kill(os.getpid(), number)
print(seen, flush=True)
init.ending.value = 1
os.kill(os.getpid(), signal.SIGTERM)  # at exit, by multiprocessing: it ends
time.sleep(20)
"""


def test_data_worker_outlives_signals() -> None:
    done = run(WORKER)
    assert (done.stdout, done.returncode) == ('[7]\n', 0), done.stderr


LEFT_WORKERS = """
import signal
from torch.utils.data import DataLoader
from mmkdlayer.engine.worker_shield import ShieldedWorkerInit
init = ShieldedWorkerInit(None, [signal.SIGTERM])
loader = DataLoader(range(100), num_workers=1, worker_init_fn=init, persistent_workers=True)
batches = iter(loader)
loader.cycle = next(batches), batches, loader
"""


def test_workers_that_are_left_do_not_keep_the_process() -> None:
    done = run(LEFT_WORKERS)
    assert (done.returncode, done.stderr) == (0, '')
