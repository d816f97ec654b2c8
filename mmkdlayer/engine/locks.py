"""One process, or one job of several, at a time in a folder: a lock that says who holds it."""

from __future__ import annotations

import json
import math
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from mmengine.logging import MMLogger, print_log

from mmkdlayer.atomic import lock_file, replacing
from mmkdlayer.errors import FolderInUseError
from mmkdlayer.fitting.distributed import from_first_rank
from mmkdlayer.plain_json import parse_json

# Seconds between two looks of all ranks: none of them waits longer than this in a collective.
_STEP = 5.0
# Looks between two lines of the log.
_LINES = 12


@contextmanager
def folder_lock(
    folder: str | os.PathLike, task: str, patience: float = math.inf, advice: str = ''
) -> Iterator[None]:
    """Hold ``<folder>/.<task>.lock`` in the block; the main process does so for all ranks.

    All ranks must call it. The system frees the lock with the process that holds it, however that one
    ends. A folder that can't be locked (some network file systems can't) is used without, with a
    warning.

    Args:
        folder: What only one is to use; made as needed.
        task: What the lock is for, in one word: locks of other tasks do not matter.
        patience: Seconds to wait for another holder; without an end by default.
        advice: What else to do, for the error.

    Raises:
        FolderInUseError: The other holder, who is named, was still there after ``patience``.
    """
    lock = FolderLock(folder, task)
    seconds, looks = 0.0, 0
    try:
        while holder := from_first_rank(partial(lock.acquire, seconds)):
            if looks * _STEP >= patience:
                raise FolderInUseError(
                    f"{folder}: {holder} is at work there ({task}), and two would spoil each other's "
                    f'files. Wait for its end, or end it. {advice}'.strip()
                )
            if looks % _LINES == 0:
                print_log(
                    f'Waiting for {holder}, which is at work in {folder} ({task}).', 'current'
                )
            seconds, looks = min(_STEP, patience), looks + 1
        yield
    finally:
        lock.release()


class FolderLock:
    """The lock of a folder, in this process alone, with the name of its holder beside it."""

    def __init__(self, folder: str | os.PathLike, task: str) -> None:
        self._path = Path(folder, f'.{task}.lock')
        self._holder = Path(folder, f'.{task}.holder')
        self._lock = FileLock(str(self._path))

    def acquire(self, seconds: float) -> str | None:
        """Take the lock within some seconds; else say who holds it."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.is_symlink():  # which some versions of filelock would follow
                raise OSError(f'{self._path} is a link')
            self._lock.acquire(timeout=seconds)
            with replacing(self._holder) as path:
                path.write_text(json.dumps(describe_process()))
            return None
        except Timeout:
            reason = self._refusal()
            if reason is None:
                return self.holder()
        except (OSError, NotImplementedError) as error:
            reason = str(error)
        MMLogger.get_current_instance().warning(
            f'{self._path.parent} can not be locked ({reason}): take care that nothing else works there '
            'at the same time.'
        )
        return None

    def _refusal(self) -> str | None:
        """Why the file system locks nothing, which older versions of filelock take for a holder."""
        with tempfile.TemporaryFile(dir=self._path.parent) as probe:
            try:
                lock_file(probe.fileno())
            except OSError as error:
                return str(error)
        return None

    def holder(self) -> str:
        """Who holds the lock, in words."""
        try:
            found = parse_json(self._holder.read_text(encoding='utf-8'))
            return f'process {found["pid"]} on {found["host"]} (since {found["since"]})'
        except (OSError, ValueError, KeyError, TypeError):
            return 'another process'

    def release(self) -> None:
        """Free the lock, if it is held."""
        if self._lock.is_locked:
            with suppress(OSError):  # the work is done; the next holder writes it anew
                self._holder.unlink()
            with suppress(OSError):
                self._lock.release()


def describe_process() -> dict[str, str]:
    """Where this process is, and the time."""
    now = datetime.now(timezone.utc).isoformat(sep=' ', timespec='seconds')
    return dict(host=socket.gethostname(), pid=str(os.getpid()), since=now)
