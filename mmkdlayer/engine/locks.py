"""One process, or one job of several, at a time in a folder: a lock that says who holds it."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path

from mmengine.logging import MMLogger, print_log

from mmkdlayer.atomic import lock_file
from mmkdlayer.errors import FolderInUseError
from mmkdlayer.fitting.distributed import from_first_rank

# Seconds between two looks, and looks between two lines of the log.
_STEP, _LINES = 1.0, 60


@contextmanager
def folder_lock(
    folder: str | os.PathLike, task: str, patience: float = math.inf, advice: str = ''
) -> Iterator[None]:
    """Hold ``<folder>/.<task>.lock`` in the block; the main process does so for all ranks.

    All ranks must call it. The system frees the lock with the process that holds it, however that one
    ends. A folder that can't be locked (some network file systems can't) is used without, with a
    warning; one that is not there is made. Locks of other tasks, which are single words, do not matter.

    Raises:
        FolderInUseError: The other holder, who is named, was still there after ``patience`` seconds
            (by default there is no end); ``advice`` says what else to do.
    """
    path, looks = Path(folder, f'.{task}.lock'), 0
    with ExitStack() as held:
        while holder := from_first_rank(lambda: acquire(path, held)):
            if looks * _STEP >= patience:
                raise FolderInUseError(
                    f"{folder}: {holder} is at work there ({task}), and two would spoil each other's "
                    f'files. Wait for its end, or end it. {advice}'.strip()
                )
            if looks % _LINES == 0:
                print_log(
                    f'Waiting for {holder}, which is at work in {folder} ({task}).', 'current'
                )
            time.sleep(_STEP)
            looks += 1
        yield


def acquire(path: Path, held: ExitStack) -> str | None:
    """Lock a file, and write into it who does, until ``held`` is closed; else say who has it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | getattr(os, 'O_NOFOLLOW', 0)
        with ExitStack() as opened:
            handle = os.open(path, flags, 0o666)
            opened.callback(os.close, handle)
            if not lock_file(handle):
                text = os.read(handle, 200).decode(errors='replace')
                return text if text and text.isprintable() else 'another process'
            os.ftruncate(handle, 0)
            os.write(handle, describe_process().encode())
            opened.callback(os.ftruncate, handle, 0)
            held.push(opened.pop_all())
    except OSError as error:
        MMLogger.get_current_instance().warning(
            f'{path.parent} can not be locked ({error}): take care that nothing else works there at the '
            'same time.'
        )
    return None


def describe_process() -> str:
    """Which process this is, and the time."""
    now = datetime.now(timezone.utc).isoformat(sep=' ', timespec='seconds')
    return f'process {os.getpid()} on {socket.gethostname()} (since {now})'
