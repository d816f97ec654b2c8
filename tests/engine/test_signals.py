"""Signals while a process trains, and while it does not."""

from __future__ import annotations

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
