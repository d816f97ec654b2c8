"""Says what is short where memory, disk or file handles do not suffice."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Optional

import torch

from mmkdlayer.errors import KDLayerError, ResourceError

_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|out of memory|could not create a primitive|"
    r"unable to allocate|std::bad_alloc|can't start new thread",
    re.I,
)
_DEVICE_MEMORY = re.compile(r'cuda[\w ]*(error)?: out of memory|cublas_status_alloc_failed', re.I)
_DISK = re.compile(r'no space left on device|disk quota exceeded', re.I)
_HANDLES = re.compile(r'too many open files', re.I)


@contextmanager
def shortages_of(path: str | os.PathLike) -> Iterator[None]:
    """Make a ResourceError that names the file of an error that a shortage is behind."""
    try:
        yield
    except Exception as error:
        found = explain_shortage(error, path)
        if found is None:
            raise
        raise found from error


def explain_shortage(
    error: Exception, path: str | os.PathLike | None = None
) -> Optional[ResourceError]:
    """What to say of an error that a lack of memory, disk or file handles is behind; None for others.

    Also where only its text tells, as with those of data workers and of compiled libraries. ``path``
    is the file that it was about, where the error does not say.
    """
    if isinstance(error, KDLayerError):
        return None
    text = str(error).strip()
    number = error.errno if isinstance(error, OSError) else None
    name = str(getattr(error, 'filename', None) or path or '') or None
    if number in (errno.ENOSPC, errno.EDQUOT) or _DISK.search(text):
        return ResourceError(_disk(name, text))
    if number in (errno.EMFILE, errno.ENFILE) or _HANDLES.search(text):
        return ResourceError(_handles(name))
    if isinstance(error, torch.cuda.OutOfMemoryError) or _DEVICE_MEMORY.search(text):
        return ResourceError(_device_memory(text))
    if isinstance(error, MemoryError) or number == errno.ENOMEM or _MEMORY.search(text):
        return ResourceError(_memory(text))
    return None


def in_units(size: float) -> str:
    """A number of bytes, with a unit in which it is not 0.00."""
    for unit in ('bytes', 'KiB', 'MiB'):
        if size < 1024:
            return f'{size:.0f} {unit}' if unit == 'bytes' else f'{size:.1f} {unit}'
        size /= 1024
    return f'{size:.2f} GiB'


def _disk(name: Optional[str], text: str) -> str:
    where, free = name or 'a file', ''
    if name:
        folder = next(parent for parent in Path(name).absolute().parents if parent.exists())
        free = f' ({in_units(shutil.disk_usage(folder).free)} are free in {folder})'
    return (
        f'The disk, or the quota of this user, is full: {where} could not be written{free}: {text}. '
        'Make room, or choose a folder on a larger disk (--work-dir, or cache_dir of FitDecisionsHook '
        'for the files of a fitting). Then the same command continues from what was saved.'
    )


def _handles(name: Optional[str]) -> str:
    what, limit = name or 'a file', _limit('RLIMIT_NOFILE')
    return (
        f'{what} could not be opened, because this process has as many open files as its limit'
        f'{limit and f" of {limit}"} (ulimit -n) allows. Raise the limit, or set num_workers of the '
        'data loaders lower.'
    )


def _device_memory(text: str) -> str:
    return (
        f'The memory of the GPU does not suffice: {" ".join(text.split())[:300]}. Lower the batch_size '
        'of the data loaders, use mixed precision (--amp, and teacher_dtype of the distiller), look for '
        'other processes on this GPU (nvidia-smi), or take one with more memory.'
    )


def _memory(text: str) -> str:
    there = []
    with suppress(AttributeError, ValueError, OSError):
        free = os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
        there.append(f'{in_units(free)} of this machine are free')
    if limit := _limit('RLIMIT_AS'):
        there.append(f'the limit of this process is {in_units(limit)} (ulimit -v)')
    first = text.split('\n')[0][:200] or 'an allocation failed'
    return (
        f'Memory does not suffice: {first} ({"; ".join(there)}). Lower the batch_size or num_workers of '
        'the data loaders, or, where decisions are fitted, memory_budget of FitDecisionsHook; or take '
        'a larger machine.'
    )


def _limit(name: str) -> int:
    """The limit of this process; 0 for none."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    soft, _ = resource.getrlimit(getattr(resource, name))
    return 0 if soft == resource.RLIM_INFINITY else soft
