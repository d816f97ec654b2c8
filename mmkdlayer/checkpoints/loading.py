"""Loads what ``torch.save`` wrote, once its file is known to be no more than that."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import IO, Any, Callable

import torch
from torch import load  # not what host_loaders puts in its place

from mmkdlayer.compat.serialization import RefusedPickleError

from .restricted_pickle import RestrictedUnpickler

FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'


def load_restricted(file: IO[bytes], map_location: Any = 'cpu') -> Any:
    """Load a file of torch, opened at its start, without running code in it, into memory of its own.

    The same with every torch: the reader behind ``weights_only=True`` takes mmengine's checkpoints from
    torch 2.4 on, and no size is compared before torch 2.9.

    Raises:
        RefusedPickleError: It asks for something that is not allowed.
        Exception: It is damaged or something else.
    """
    room = staticmethod(_room_for_tensors(file))
    unpickler = type('Unpickler', (RestrictedUnpickler,), {'room': room})
    module = SimpleNamespace(
        __name__=__name__,
        Unpickler=unpickler,
        load=lambda file, **options: unpickler(file, **options).load(),
    )
    file.seek(0)
    with _unpickler_allowed(), torch.sparse.check_sparse_tensor_invariants():
        return load(
            file, map_location=map_location, pickle_module=module, weights_only=False, mmap=False
        )


def _room_for_tensors(file: IO[bytes]) -> Callable[[str], int]:
    """Refuse what torch does not read by unpickling, or what grows or was changed.

    It hands TorchScript, which may run as it is read, to ``torch.jit.load``, and unpacks tar archives.

    Returns:
        How many bytes there are for the tensor of a key.

    Raises:
        RefusedPickleError: It is TorchScript or a tar archive, or compressed.
        BadZipFile: A checksum in it is of another content: torch compares none of those of tensors, so
            a weight with a bit flipped would be another weight.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if not torch.serialization._is_zipfile(file):
        if tarfile.is_tarfile(file):
            raise RefusedPickleError('it is a tar archive, which is not allowed')
        return lambda key: size  # torch compares with the numbers that are there
    with torch.serialization._open_zipfile_reader(file) as reader:
        if torch.serialization._is_torchscript_zip(reader):
            raise RefusedPickleError('it is a TorchScript program, not a checkpoint')
    refuse_compression(file)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        # All are 0 where torch was told to save no checksums.
        damaged = archive.testzip() if any(entry.CRC for entry in entries) else None
        if damaged is not None:
            raise zipfile.BadZipFile(f'the checksum of {damaged} in it is of another content')
    sizes = {entry.filename.partition('/data/')[2]: entry.file_size for entry in entries}
    if len({entry.filename for entry in entries}) < len(entries):
        raise RefusedPickleError('it has two entries of the same name')
    return lambda key: sizes.get(key, 0)


@contextmanager
def _unpickler_allowed() -> Iterator[None]:
    """Let torch take an unpickler of ours where the environment asks for its own at all times."""
    before = os.environ.pop(FORCE, None)
    try:
        yield
    finally:
        if before is not None:
            os.environ[FORCE] = before


def refuse_compression(file: IO[bytes]) -> None:
    """Refuse a zip archive that holds more than its own size.

    torch and numpy do not compress what they save, so only made-up files do. 261 KB can be many GB.

    Raises:
        RefusedPickleError: It does.
    """
    with zipfile.ZipFile(file) as archive:
        content = sum(entry.file_size for entry in archive.infolist())
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if content > size:
        raise RefusedPickleError(
            f'it is {size} bytes long but holds {content}: it is compressed, as torch and numpy do not '
            'save, and is not expanded'
        )
