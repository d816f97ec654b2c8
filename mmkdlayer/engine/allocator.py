"""Memory on CPUs: freed memory is kept for the next step instead of given back to the system.

By default glibc takes each large tensor from the system and gives it back when it is freed, and the
system clears the pages anew: a third of the time that KD layers add to a step.
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
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
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
    tuned = any(name in os.environ for name in VARIABLES)
    tuned = tuned or 'glibc.malloc' in os.environ.get('GLIBC_TUNABLES', '')
    if not wanted or tuned or get_device() != 'cpu':
        return ''
    libc = _glibc()
    if libc is None or not (libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, -1)):
        return ''
    return (
        'Freed memory is kept for the next step, which is faster on a CPU; the process stays as large '
        'as it was at most. env_cfg.keep_memory=False turns this off.'
    )


def _glibc() -> Any:
    """The C library, where it is glibc and allocates the memory of this process; else None."""
    if sys.platform != 'linux':
        return None
    try:
        libc = ctypes.CDLL('libc.so.6')
        used = ctypes.CDLL(None).malloc  # that of jemalloc or tcmalloc, where one is preloaded
        known = hasattr(libc, 'gnu_get_libc_version') and hasattr(libc, 'mallopt')
        addresses = {ctypes.cast(malloc, ctypes.c_void_p).value for malloc in (used, libc.malloc)}
    except (OSError, AttributeError):
        return None
    return libc if known and len(addresses) == 1 else None
