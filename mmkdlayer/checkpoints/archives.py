"""What can be said about a file of torch before anything in it is loaded."""

from __future__ import annotations

import os
import tarfile
import zipfile
from typing import IO, Any

import torch

from mmkdlayer.compat.serialization import RefusedPickleError

from .restricted_pickle import allowed_globals
from .survey import Survey

#: Before the numbers in a file of torch's older format: magic number, version, machine, content, keys.
PICKLES = 5


def refuse_programs(file: IO[bytes]) -> None:
    """Refuse what ``torch.load`` does not read by unpickling, or what grows as it is read.

    Before torch 2.6 it hands TorchScript, which may run as it is read, to ``torch.jit.load``, and
    unpacks tar archives, whatever ``weights_only`` says.

    Raises:
        RefusedPickleError: It is TorchScript or a tar archive, or compressed.
        BadZipFile: A checksum in it is of another content.
    """
    if torch.serialization._is_zipfile(file):
        refuse_compression(file)
        with torch.serialization._open_zipfile_reader(file) as reader:
            if torch.serialization._is_torchscript_zip(reader):
                raise RefusedPickleError('it is a TorchScript program, not a checkpoint')
        refuse_wrong_sizes(file)
        refuse_changed_content(file)
    elif tarfile.is_tarfile(file):
        raise RefusedPickleError('it is a tar archive, which is not allowed')
    else:
        file.seek(0)
        for _ in range(PICKLES):
            Survey(file).load()
    file.seek(0)


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


def refuse_wrong_sizes(file: IO[bytes]) -> None:
    """Refuse a zip archive of torch whose pickle promises more numbers than are there.

    torch 2.8 and older do not compare, and read memory that is not the file's.

    Raises:
        RefusedPickleError: It does, or it holds what can't be gone through.
        Exception: It is no such archive.
    """
    with _open(file) as archive:
        sizes = {
            entry.filename.partition('/data/')[2]: entry.file_size for entry in archive.infolist()
        }
        pickles = [name for name in archive.namelist() if name.endswith('data.pkl')]
        for name in pickles:
            with archive.open(name) as stream:
                survey = Survey(stream)
                survey.load()
            for kind, key, count in ((pid[1], pid[2], pid[4]) for pid in survey.storages):
                needed = count * _item_size(kind)
                if needed > sizes.get(key, 0):
                    raise RefusedPickleError(
                        f'it says that its tensor {key!r} has {needed} bytes, but there are '
                        f'{sizes.get(key, 0)}'
                    )
    file.seek(0)


def refuse_changed_content(file: IO[bytes]) -> None:
    """Compare the checksums in a zip archive of torch with its content.

    torch compares none of those of tensors: a weight with a bit flipped would be another weight.

    Raises:
        BadZipFile: One differs.
    """
    with _open(file) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f'the checksum of {damaged} in it is of another content')
    file.seek(0)


def _open(file: IO[bytes]) -> zipfile.ZipFile:
    """Open a zip archive of torch, which may have been told to save no checksums: all are 0 then."""
    archive = zipfile.ZipFile(file)
    entries = archive.infolist()
    if not any(entry.CRC for entry in entries):
        for entry in entries:
            del entry.CRC  # zipfile compares those that are there
    return archive


def _item_size(kind: Any) -> int:
    """Bytes of a number in a storage of a type, which a stub names."""
    dtype = getattr(allowed_globals().get(kind.name), 'dtype', None)
    return dtype.itemsize if isinstance(dtype, torch.dtype) else 1


def survey_pickles(file: IO[bytes]) -> tuple[list[str], bool, int]:
    """Names of functions and classes that the pickles in a file ask for, as far as it can be read.

    Returns:
        The names, whether the pickles can be read to their ends, and the highest protocol of one.
    """
    names: list[str] = []
    protocol = 0

    def survey(stream: IO[bytes]) -> None:
        nonlocal protocol
        found = Survey(stream)
        try:
            found.load()
        finally:
            names.extend(name for name in found.names if name not in names)
            protocol = max(protocol, getattr(found, 'proto', 0))

    file.seek(0)
    try:
        if torch.serialization._is_zipfile(file):
            with _open(file) as archive:
                entries = [name for name in archive.namelist() if name.endswith('data.pkl')]
                for name in entries:
                    with archive.open(name) as stream:
                        survey(stream)
            return names, bool(entries), protocol
        for _ in range(PICKLES):
            survey(file)
        return names, True, protocol
    except Exception:  # what is no pickle, or cut
        return names, False, protocol
