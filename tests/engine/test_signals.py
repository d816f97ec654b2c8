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
os.kill(os.getpid(), signal.{again})  # while the process cleans up
raise SystemExit('not reached')
"""
AT_ONCE = """
os.kill(os.getpid(), signal.SIGUSR1)
while True:
    time.sleep(1)
"""
# Ctrl-C twice: the first is kept, also where a launcher passes it on, the second ends the process.
TWICE = """
watch.deferring = True
os.kill(os.getpid(), signal.SIGINT)
end = time.monotonic() + 20
while watch.received is None and time.monotonic() < end:
    time.sleep(0.01)
print(watch.received.name, watch.exit_code, flush=True)
watch._receive(signal.SIGINT)
print('one', flush=True)
watch._pressed -= 60
os.kill(os.getpid(), signal.SIGINT)
while True:
    time.sleep(1)
"""
# A background job of a shell, which ignores Ctrl-C.
IGNORED = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
watch = signals['SignalWatch']()
assert watch.start(signals['SIGNALS'])
os.kill(os.getpid(), signal.SIGINT)
time.sleep(0.2)
watch.stop()
print(signal.getsignal(signal.SIGINT).name)
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
    [
        (DEFERRED.replace('{again}', 'SIGINT'), 75, ['SIGUSR1']),
        (DEFERRED.replace('{again}', 'SIGTERM'), 75, ['SIGUSR1']),
        (AT_ONCE, 75, ['SIGUSR1 received outside', 'exit code 75']),
        (AT_ONCE.replace('USR1', 'INT'), 130, ['SIGINT received outside', 'exit code 130']),
        (TWICE, 130, ['SIGINT 130', 'Press it again', 'one', 'SIGINT received again']),
        (CHILD, 0, ['-15 None']),
    ],
    ids=['deferred', 'while it ends', 'at once', 'Ctrl-C', 'twice', 'child'],
)
def test_signal(body: str, code: int, output: list[str]) -> None:
    done = run(SCRIPT.format(body=body))
    assert done.returncode == code, done.stderr
    for text in output:
        assert text in done.stdout + done.stderr
    assert 'Traceback' not in done.stderr
    assert done.stderr.count('Press it again') <= 1


def test_ctrl_c_that_is_ignored() -> None:
    done = run(IGNORED)
    assert (done.returncode, done.stdout) == (0, 'SIG_IGN\n'), done.stderr
