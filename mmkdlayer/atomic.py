"""Files that appear whole or not at all, and what is left of them where a process was killed."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: leftovers stay there
    fcntl = None  # type: ignore[assignment]

#: In the name of all that is being written: ``.<stem>.partial-<random><suffix>``.
MARK = '.partial-'


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Write a file beside its place, then put it there: a reader sees the old one or the new one, whole.

    The block gets the empty file to write; the folder of ``path`` is made as needed. Nothing of it
    stays where the block fails; :func:`remove_leftovers` removes it where the process was killed. A
    device, a pipe or a stream such as /dev/stdout is written to at the end, and stays what it is.

    Raises:
        OSError: The folder can't be made or written, or there is a folder in the place of the file. It
            names the file where the system does not, as on a full disk.
    """
    target = Path(path)
    if target.is_dir():
        words = 'a folder is in the place of a file that is to be written; remove or rename it'
        raise IsADirectoryError(errno.EISDIR, words, str(target))
    with _naming(target):
        if is_stream(target):
            with tempfile.TemporaryDirectory() as folder:
                partial = Path(folder, target.name)
                partial.touch()
                yield partial
                with partial.open('rb') as written, target.open('ab') as stream:
                    shutil.copyfileobj(written, stream)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = _begin(target)
        try:
            yield partial
            with partial.open('rb') as written:
                os.fsync(written.fileno())
            # mkstemp makes the file private; give it the rights that a plain open would.
            mask = os.umask(0)
            os.umask(mask)
            partial.chmod(0o666 & ~mask)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
            os.close(handle)


@contextmanager
def _naming(target: Path) -> Iterator[None]:
    """Let an OSError name the file: its text would be lost else."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(target)
        raise


def is_stream(path: str | os.PathLike) -> bool:
    """Whether a path is a device, a pipe, or what a process has open, such as /dev/stdout."""
    path = Path(path)
    if not path.exists() or path.is_dir():
        return False
    places = os.readlink(path) if path.is_symlink() else '', str(path.parent.resolve())
    return not path.is_file() or any(place.startswith('/proc/') for place in places)


@contextmanager
def partial_folder(parent: str | os.PathLike, name: str) -> Iterator[Path]:
    """A folder for files that are not ready yet, removed at the end with all that is in it.

    It is empty, in ``parent``, which is made as needed. :func:`remove_leftovers` removes it where
    the process was killed.

    Raises:
        OSError: It can't be made.
    """
    target = Path(parent, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, folder = _begin(target, is_folder=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        os.close(handle)


def remove_leftovers(folder: str | os.PathLike) -> list[Path]:
    """Remove what killed processes have left half written in a folder, and nothing of living ones.

    A process holds a lock on what it writes, which the system releases however the process ends. On a
    disk without locks nothing is removed, nor in a folder that does not exist, nor in folders of it.

    Returns:
        What was removed.
    """
    removed = []
    for path in sorted(Path(folder).glob(f'.*{MARK}*')) if fcntl else ():
        with suppress(OSError):  # another process has removed it, or it may not be removed
            is_folder = path.is_dir()
            handle = _open(path, is_folder)
            try:
                if lock_file(handle):
                    shutil.rmtree(path) if is_folder else path.unlink()
                    removed.append(path)
            finally:
                os.close(handle)
    return removed


def _begin(target: Path, is_folder: bool = False) -> tuple[int, Path]:
    """Make what is partial, beside its target and of this process: a handle that locks it, its path."""
    while True:
        prefix = f'.{target.stem}{MARK}'
        if is_folder:
            path = Path(tempfile.mkdtemp(dir=target.parent, prefix=prefix))
            try:
                handle = _open(path, is_folder) if fcntl else os.open(os.devnull, os.O_RDONLY)
            except FileNotFoundError:
                continue  # as below
        else:
            handle, name = tempfile.mkstemp(target.suffix, prefix, target.parent)
            path = Path(name)
        try:
            locked = lock_file(handle)
        except OSError:  # a disk without locks
            locked = True
        if locked and path.exists():
            return handle, path
        os.close(handle)  # another process took it for a leftover, before it was locked


def _open(path: Path, is_folder: bool) -> int:
    """Open a file or a folder to lock it, but no link."""
    return os.open(path, (os.O_RDONLY if is_folder else os.O_RDWR) | getattr(os, 'O_NOFOLLOW', 0))


def lock_file(handle: int) -> bool:
    """Lock a file until the handle is closed; False where another process has.

    Raises:
        OSError: The disk has no locks.
    """
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
