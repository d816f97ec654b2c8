"""Only one process at a time works in a folder, and it is named."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmkdlayer.engine import locks
from mmkdlayer.engine.locks import acquire, folder_lock
from mmkdlayer.errors import FolderInUseError

HOLD = """
import fcntl, sys, time
lock = open(sys.argv[1], 'w')
fcntl.flock(lock, fcntl.LOCK_EX)
print('held', flush=True)
time.sleep(100)
"""


def test_another_holder_is_named(tmp_path: Path) -> None:
    with folder_lock(tmp_path / 'new', 'training'):
        words = rf'new: process {os.getpid()} on {socket.gethostname()} \(since 20.*Or wait\.'
        again = folder_lock(tmp_path / 'new', 'training', 0, 'Or wait.')
        with pytest.raises(FolderInUseError, match=words), again:
            pass
        with folder_lock(tmp_path / 'new', 'fitting', 0):  # another task
            pass
    with folder_lock(tmp_path / 'new', 'training', 0):
        pass
    assert (tmp_path / 'new' / '.training.lock').read_text() == ''


def test_the_second_waits_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, said = ExitStack(), []

    def say(text: str, logger: str) -> None:
        said.append(text)
        first.close()

    assert acquire(tmp_path / '.fitting.lock', first) is None
    monkeypatch.setattr(locks, 'print_log', say)
    monkeypatch.setattr(locks, '_STEP', 0.01)
    with folder_lock(tmp_path, 'fitting'):
        pass
    assert len(said) == 1 and f'Waiting for process {os.getpid()}' in said[0]


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    command = [sys.executable, '-c', HOLD, str(tmp_path / '.fitting.lock')]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == 'held\n'
        assert acquire(tmp_path / '.fitting.lock', ExitStack()) == 'another process'
        process.send_signal(signal.SIGKILL)
        process.wait()
    with folder_lock(tmp_path, 'fitting', 0):
        pass


def test_a_folder_that_cannot_be_locked_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_at_all(handle: int) -> None:
        raise OSError(37, 'No locks available')

    said: list[str] = []
    monkeypatch.setattr(locks, 'lock_file', none_at_all)
    logger = SimpleNamespace(warning=said.append)
    monkeypatch.setattr(locks.MMLogger, 'get_current_instance', lambda: logger)
    with folder_lock(tmp_path, 'fitting'):
        pass
    assert 'can not be locked' in said[0] and 'No locks available' in said[0]


def test_a_damaged_note_of_the_holder_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / '.fitting.lock'
    with folder_lock(tmp_path, 'fitting'):
        for text in (b'', b'\x1b[31m', b'\xff\n'):
            path.write_bytes(text)
            assert acquire(path, ExitStack()) == 'another process'


def test_no_link_is_followed(tmp_path: Path) -> None:
    victim = tmp_path / 'victim'
    victim.write_text('kept')
    (tmp_path / '.fitting.lock').symlink_to(victim)
    with folder_lock(tmp_path, 'fitting'):
        pass
    assert victim.read_text() == 'kept'
