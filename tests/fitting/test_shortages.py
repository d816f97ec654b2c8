"""A lack of memory, disk or file handles is named as that, with the file and what to do."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest
import torch

from mmkdlayer.errors import ConfigError, ResourceError
from mmkdlayer.fitting.distributed import errors_on_all_ranks
from mmkdlayer.fitting.shortages import explain_shortage, in_units, shortages_of


def test_handles() -> None:
    """With a limit so low that the next files exceed it."""
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    kept: list[int] = []
    try:
        with pytest.raises(ResourceError) as caught, shortages_of('the/file'):
            lowest = os.open(os.devnull, os.O_RDONLY)
            kept.append(lowest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 8, usual[1]))
            while True:
                kept.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
        for handle in kept:
            os.close(handle)
    text = str(caught.value)
    assert '/dev/null could not be opened' in text and 'num_workers' in text
    assert '(ulimit -n)' in text


@pytest.mark.parametrize(
    ('error', 'words'),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 'features could not be written'),
        (RuntimeError('Error: I/O error: No space left on device (os error 28)'), 'features could'),
        (OSError(errno.EDQUOT, 'Disk quota exceeded'), 'quota'),
        (MemoryError(), 'an allocation failed'),
        (RuntimeError("can't start new thread"), "does not suffice: can't start new thread"),
        (RuntimeError('could not create a primitive'), 'Memory does not suffice.*memory_budget'),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"
            ),
            'Memory does not suffice.*free',
        ),
        (
            torch.cuda.OutOfMemoryError(
                'CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has'
            ),
            'memory of the GPU does not suffice: CUDA out of memory. Tried to.*batch_size.*--amp',
        ),
        (
            RuntimeError('CUDA error: out of memory\nCUDA kernel errors might be'),
            'of the GPU does not',
        ),
        (RuntimeError('Caught OSError in worker 0.\n[Errno 24] Too many open files'), 'ulimit -n'),
    ],
)
def test_each_is_named(error: Exception, words: str, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=words) as caught, shortages_of(tmp_path / 'features'):
        raise error
    assert caught.value.__cause__ is error
    with pytest.raises(ResourceError), errors_on_all_ranks():
        raise error


def test_other_errors_stay_what_they_are() -> None:
    for error in (ConfigError('out of memory'), ValueError('x'), OSError(errno.ENOENT, 'no file')):
        assert explain_shortage(error) is None
        with pytest.raises(type(error)), shortages_of('x'):
            raise error


def test_no_amount_is_shown_as_zero() -> None:
    sizes = [0, 160, 64 << 20, 50 << 20, 5 << 30]
    expected = ['0 bytes', '160 bytes', '64.0 MiB', '50.0 MiB', '5.00 GiB']
    assert [in_units(size) for size in sizes] == expected
