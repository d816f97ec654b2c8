"""Signals while a process trains, and while it does not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mmkdlayer

# The module alone, which needs nothing of this package: importing that takes seconds.
LOAD = """
import multiprocessing, os, runpy, signal, sys, time
signals = runpy.run_path({file!r})
"""
SCRIPT = """
watch = signals['SignalWatch']()
assert watch.start(signals['SIGNALS']) and watch.start(signals['SIGNALS'])
{body}
"""
DEFERRED = """
watch.deferring = True
os.kill(os.getpid(), signal.SIGUSR1)
end = time.monotonic() + 20
while watch.received is None and time.monotonic() < end:
    time.sleep(0.01)
print(watch.received.name)
watch.stop()
assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
"""
AT_ONCE = """
os.kill(os.getpid(), signal.SIGUSR1)
while True:
    time.sleep(1)
"""
# A child that is told to end (as a loader ends its workers) is no reason for the parent to end.
CHILD = """
child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))
child.start()
time.sleep(0.2)
child.terminate()
child.join(20)
time.sleep(0.2)
print(child.exitcode, watch.received)
"""


def run(code: str) -> subprocess.CompletedProcess:
    file = Path(mmkdlayer.__file__).parent / 'engine' / 'signals.py'
    program = [sys.executable, '-c', LOAD.format(file=str(file)) + code]
    return subprocess.run(program, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ('body', 'code', 'output'),
    [(DEFERRED, 0, 'SIGUSR1'), (AT_ONCE, 75, 'SIGUSR1 received outside'), (CHILD, 0, '-15 None')],
    ids=['deferred', 'at once', 'child'],
)
def test_signal(body: str, code: int, output: str) -> None:
    done = run(SCRIPT.format(body=body))
    assert done.returncode == code, done.stderr
    assert output in done.stdout + done.stderr


WORKER = """
seen = []
signals['ShieldedWorkerInit'](seen.append, (signal.SIGTERM, signal.SIGUSR1))(7)
for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM):
    os.kill(os.getpid(), number)
print(seen, flush=True)
signals['ShieldedWorkerInit']._ignore_at_first.__globals__['TOGETHER'] = 0
os.kill(os.getpid(), signal.SIGTERM)  # later, of the loader: it ends
time.sleep(20)
"""


def test_data_worker_outlives_the_signals_of_one_moment() -> None:
    done = run(WORKER)
    assert (done.stdout, done.returncode) == ('[7]\n', -signal.SIGTERM), done.stderr


LEFT_WORKERS = """
import signal
from torch.utils.data import DataLoader
from mmkdlayer.engine.signals import ShieldedWorkerInit
init = ShieldedWorkerInit(None, [signal.SIGTERM])
loader = DataLoader(range(100), num_workers=1, worker_init_fn=init, persistent_workers=True)
batches = iter(loader)
loader.cycle = next(batches), batches, loader
"""


def test_workers_that_are_left_do_not_keep_the_process() -> None:
    done = subprocess.run(
        [sys.executable, '-c', LEFT_WORKERS], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, '')
