"""Memory on CPUs: kept for the next step by a training, given back at once by a report.

By default glibc takes each large tensor from the system and gives it back when it is freed, and the
system clears the pages anew: a third of the time that KD layers add to a step. Once large tensors were
freed it takes the next ones from its heap, where what lives on between them keeps the holes.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device

from mmkdlayer.errors import ConfigError

#: Parameters of glibc's mallopt (malloc.h).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
#: Bytes from which on memory that is not kept is the system's.
LARGE = 1 << 20
#: What users set to choose glibc's behaviour themselves.
VARIABLES = ('MALLOC_MMAP_MAX_', 'MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_')


def keep_memory(cfg: Config) -> str:
    """Keep freed memory in this process, where that is a gain and nobody chose otherwise.

    That is on a CPU, with glibc's own allocator. Processes that are forked from now on, such as the
    workers of data loaders, do the same. ``env_cfg.keep_memory=False`` leaves the allocator as it is.

    Returns:
        A line for the log; empty where nothing was changed.

    Raises:
        ConfigError: ``env_cfg.keep_memory`` is neither True nor False.
    """
    wanted = (cfg.get('env_cfg') or {}).get('keep_memory', True)
    if not isinstance(wanted, bool):
        raise ConfigError(f'env_cfg.keep_memory={wanted!r}: expected True or False.')
    libc = _glibc() if wanted and get_device() == 'cpu' else None
    if libc is None or not (libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, -1)):
        return ''
    return (
        'Freed memory is kept for the next step, which is faster on a CPU; the process stays as large '
        'as it was at most. env_cfg.keep_memory=False turns this off.'
    )


def return_memory() -> None:
    """Give large tensors back to the system as they are freed, so that memory does not grow with time.

    That is with glibc's own allocator, where nobody chose otherwise; else nothing happens.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(M_MMAP_THRESHOLD, LARGE)


def _glibc() -> Any:
    """The C library, where it is glibc, used by this process, and nobody tuned it; else None."""
    tuned = any(name in os.environ for name in VARIABLES)
    if sys.platform != 'linux' or tuned or 'glibc.malloc' in os.environ.get('GLIBC_TUNABLES', ''):
        return None
    try:
        libc = ctypes.CDLL('libc.so.6')
        used = ctypes.CDLL(None).malloc  # that of jemalloc or tcmalloc, where one is preloaded
        known = hasattr(libc, 'gnu_get_libc_version') and hasattr(libc, 'mallopt')
        addresses = {ctypes.cast(malloc, ctypes.c_void_p).value for malloc in (used, libc.malloc)}
    except (OSError, AttributeError):
        return None
    return libc if known and len(addresses) == 1 else None
