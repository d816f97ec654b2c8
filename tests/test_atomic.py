"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

import mmkdlayer.atomic
from mmkdlayer.atomic import MARK, is_stream, partial_folder, remove_leftovers, replacing


def test_new_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / 'folder' / 'file.txt'
    for text in ('first', 'second'):
        with replacing(target) as partial:
            partial.write_text(text)
            assert partial.suffix == '.txt'
            assert not target.exists() or target.read_text() == 'first'
        assert target.read_text() == text
    assert [file.name for file in target.parent.iterdir()] == ['file.txt']
    mask = os.umask(0)
    os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~mask


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / 'file.txt'
    target.write_text('old')
    with pytest.raises(KeyError), replacing(target) as partial:
        partial.write_text('half')
        raise KeyError
    assert target.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_in_the_place_of_the_file_is_named_before_anything_is_written(
    tmp_path: Path,
) -> None:
    (tmp_path / 'file.txt').mkdir()
    words = r'a folder is in the place.*remove.*file\.txt'
    with pytest.raises(OSError, match=words), replacing(tmp_path / 'file.txt'):
        raise AssertionError('it must not come so far')
    assert [file.name for file in tmp_path.iterdir()] == ['file.txt']


# The module alone, which needs nothing of this package: importing that takes seconds.
KILLED = """
import os, runpy, signal, sys
replacing = runpy.run_path(sys.argv[1])['replacing']
with replacing(sys.argv[2]) as partial:
    partial.write_text('half')
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_leftovers_of_killed_processes_are_removed_and_nothing_else(tmp_path: Path) -> None:
    program = [sys.executable, '-c', KILLED, mmkdlayer.atomic.__file__]
    subprocess.run([*program, str(tmp_path / 'penult.safetensors')], check=False)
    left = list(tmp_path.iterdir())
    assert len(left) == 1
    assert left[0].name.startswith('.penult.partial-') and left[0].suffix == '.safetensors'
    for name in ('.hidden.pth', 'epoch_1.pth', 'part.partial-1.pth'):
        (tmp_path / name).touch()
    with replacing(tmp_path / 'interrupted.pth') as partial:
        assert remove_leftovers(tmp_path) == left
        assert partial.exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        '.hidden.pth',
        'epoch_1.pth',
        'interrupted.pth',
        'part.partial-1.pth',
    ]
    assert remove_leftovers(tmp_path / 'nowhere') == []


def test_folders_of_killed_processes_are_removed_and_those_of_living_ones_stay(
    tmp_path: Path,
) -> None:
    killed = KILLED.replace('replacing', 'partial_folder').replace(
        '(sys.argv[2])', "(sys.argv[2], 'export')"
    )
    killed = killed.replace("partial.write_text('half')", "(partial / 'file').write_text('half')")
    program = [sys.executable, '-c', killed, mmkdlayer.atomic.__file__, str(tmp_path)]
    subprocess.run(program, check=False)
    left = list(tmp_path.iterdir())
    assert [file.name for file in left[0].iterdir()] == ['file']
    with partial_folder(tmp_path, 'export') as own:
        assert remove_leftovers(tmp_path) == left
        assert own.is_dir()
        (own / 'file').touch()
    assert not list(tmp_path.iterdir())


def test_links_are_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / 'victim.txt'
    victim.write_text('text')
    (tmp_path / f'.file{MARK}1.txt').symlink_to(victim)
    assert remove_leftovers(tmp_path) == []
    assert victim.read_text() == 'text'


def test_a_file_that_is_taken_for_a_leftover_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, removed = mmkdlayer.atomic.lock_file, []

    def remove_before(handle: int) -> bool:
        if not removed:
            monkeypatch.setattr(mmkdlayer.atomic, 'lock_file', lock)
            removed.extend(remove_leftovers(tmp_path))
        return lock(handle)

    monkeypatch.setattr(mmkdlayer.atomic, 'lock_file', remove_before)
    with replacing(tmp_path / 'file.txt') as partial:
        assert removed and partial not in removed
        partial.write_text('whole')
    assert (tmp_path / 'file.txt').read_text() == 'whole'


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe, got = tmp_path / 'pipe', []
    os.mkfifo(pipe)
    reader = Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    with replacing(pipe) as partial:
        partial.write_bytes(b'text')
    reader.join(30)
    assert got == [b'text'] and pipe.is_fifo() and not pipe.is_file()
    assert os.listdir(tmp_path) == ['pipe']


def test_an_open_file_is_added_to(tmp_path: Path) -> None:
    """As /dev/stdout is, which is a link to one of these."""
    with (tmp_path / 'log').open('w') as log:
        log.write('before\n')
        log.flush()
        for number, path in enumerate((f'/dev/fd/{log.fileno()}', tmp_path / 'out')):
            if number:
                Path(path).symlink_to(f'/proc/self/fd/{log.fileno()}')
            assert is_stream(path)
            with replacing(path) as partial:
                partial.write_text(f'{number}\n')
    assert (tmp_path / 'log').read_text() == 'before\n0\n1\n'


def test_plain_files_are_no_streams(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    (tmp_path / 'link').symlink_to('file')
    names = ('', 'file', 'link', 'none')
    assert not any(is_stream(tmp_path / name) for name in names)
    with pytest.raises(OSError) as info, replacing('/dev/full') as partial:
        partial.write_text('a')
    assert info.value.filename == '/dev/full' and is_stream('/dev/full')


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    target = tmp_path / 'file.txt'
    with pytest.raises(OSError, match=r'No space left on device.*file\.txt'), replacing(target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_disks_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(mmkdlayer.atomic.fcntl, 'flock', fail)
    with replacing(tmp_path / 'file.txt') as partial:
        partial.write_text('whole')
        assert remove_leftovers(tmp_path) == []
    assert (tmp_path / 'file.txt').read_text() == 'whole'
