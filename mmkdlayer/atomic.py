"""Files that appear whole or not at all, and what is left of them where a process was killed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: leftovers stay there
    fcntl = None  # type: ignore[assignment]

#: In the name of every file that is being written: ``.<stem>.partial-<random><suffix>``.
MARK = '.partial-'


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Write a file beside its place, then put it there: a reader sees the old one or the new one, whole.

    Args:
        path: Where the file goes; its folder is made as needed.

    Yields:
        The empty file to write. Nothing of it stays where the block fails; :func:`remove_leftovers`
        removes it where the process was killed.

    Raises:
        OSError: The folder can't be made or written. It names the file where the system does not, as
            on a full disk.
    """
    target = Path(path)
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
    except OSError as error:
        if error.filename is None and error.errno is not None:  # else its text would be lost
            error.filename = str(target)
        raise
    finally:
        partial.unlink(missing_ok=True)
        os.close(handle)


def remove_leftovers(folder: str | os.PathLike) -> list[Path]:
    """Remove what killed processes have left half written in a folder, and nothing of living ones.

    A process holds a lock on what it writes, which the system releases however the process ends. On a
    disk without locks nothing is removed.

    Args:
        folder: Where :func:`replacing` has written; it need not exist. Not what is in its folders.

    Returns:
        What was removed.
    """
    removed = []
    for path in sorted(Path(folder).glob(f'.*{MARK}*')):
        with suppress(OSError):  # another process has removed it, or it may not be removed
            handle = os.open(path, os.O_RDWR | getattr(os, 'O_NOFOLLOW', 0))
            try:
                if _lock(handle):
                    path.unlink()
                    removed.append(path)
            finally:
                os.close(handle)
    return removed


def _begin(target: Path) -> tuple[int, Path]:
    """Make a partial file of this process beside its target: an open handle that locks it, its path."""
    while True:
        handle, name = tempfile.mkstemp(
            dir=target.parent, prefix=f'.{target.stem}{MARK}', suffix=target.suffix
        )
        with suppress(OSError):  # a disk without locks
            _lock(handle)
        if os.path.exists(name):
            return handle, Path(name)
        os.close(handle)  # another process took it for a leftover, before it was locked


def _lock(handle: int) -> bool:
    """Lock a file until the handle is closed; False where another process has, or there are no locks.

    Raises:
        OSError: The disk has no locks.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
