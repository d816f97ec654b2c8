"""What can be said about a file of torch before anything in it is loaded."""

from __future__ import annotations

import _compat_pickle
import os
import pickletools
import tarfile
import zipfile
from collections.abc import Iterator
from typing import IO

import torch

from mmkdlayer.compat.serialization import RefusedPickleError


def refuse_programs(file: IO[bytes]) -> None:
    """Refuse what ``torch.load`` does not read by unpickling, or what grows as it is read.

    Before torch 2.6 it hands TorchScript, which may run as it is read, to ``torch.jit.load``, and
    unpacks tar archives, whatever ``weights_only`` says.

    Raises:
        RefusedPickleError: It is TorchScript or a tar archive, or compressed.
    """
    if torch.serialization._is_zipfile(file):
        refuse_compression(file)
        with torch.serialization._open_zipfile_reader(file) as reader:
            if torch.serialization._is_torchscript_zip(reader):
                raise RefusedPickleError('it is a TorchScript program, not a checkpoint')
    elif tarfile.is_tarfile(file):
        raise RefusedPickleError('it is a tar archive, which is not allowed')
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


def requested_globals(file: IO[bytes]) -> list[str]:
    """Names of functions and classes that the pickles in a file ask for, as far as it can be read."""
    names: list[str] = []
    file.seek(0)
    try:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            while True:  # one after the other, before the numbers
                names.extend(_globals_of(file))
        with zipfile.ZipFile(file) as archive:
            for entry in archive.namelist():
                if entry.endswith('data.pkl'):
                    with archive.open(entry) as stream:
                        names.extend(_globals_of(stream))
    except Exception:  # what is no pickle, or cut
        pass
    return list(dict.fromkeys(names))


def _globals_of(stream: IO[bytes]) -> Iterator[str]:
    memo: list[object] = []
    strings: list[object] = []
    pushed: object = None
    for opcode, value, _ in pickletools.genops(stream):
        if opcode.name == 'GLOBAL':
            yield _modern_name(*str(value).split(' ', 1))
        elif opcode.name == 'STACK_GLOBAL' and len(strings) > 1:
            yield _modern_name(str(strings[-2]), str(strings[-1]))
        elif opcode.name == 'MEMOIZE':
            memo.append(pushed)
            continue
        elif 'GET' in opcode.name and isinstance(value, int) and value < len(memo):
            value = memo[value]
        pushed = value if isinstance(value, str) else None
        if isinstance(value, str) and opcode.name != 'GLOBAL':
            strings = [*strings[-1:], value]


def _modern_name(module: str, name: str = '') -> str:
    """A name as Python 3 has it: protocol 2, which torch writes, has those of Python 2."""
    module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
    return f'{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}'
