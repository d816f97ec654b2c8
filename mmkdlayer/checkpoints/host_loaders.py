"""Lets the host libraries read weights as this package does."""

from __future__ import annotations

import logging
import os
import re
from functools import partial, wraps
from typing import IO, Any, Callable

import torch
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader

from .contents import check_content
from .loading import load_restricted
from .reading import hash_content, read_checkpoint

#: A hash in the name of a published file, such as that of resnet18-f37072fd.pth; a date is none.
NAMED = re.compile(r'[-_]([0-9a-f]{8,64})\.\w+$')
DATE = re.compile(r'20\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])$')


def read_for_hosts() -> None:
    """Make mmengine read checkpoints with restrictions, whoever asks for them; again is the same.

    It loads the teachers of mmrazor, ``init_cfg=dict(type='Pretrained')``, and what a Runner resumes or
    tests. It reads files with torch's defaults, which before torch 2.6 run code in them, and downloads
    so with every torch; onedl-mmengine does where anything else fails.
    """
    for prefix, loader in list(CheckpointLoader._schemes.items()):
        if not hasattr(loader, 'restricted'):
            restricted = read_local if prefix == '' else _with_restrictions(loader)
            CheckpointLoader.register_scheme(prefix, restricted, force=True)


def read_local(filename: str, map_location: Any = None) -> Any:
    """Read a file for mmengine.

    Without ``map_location`` (mmrazor's teachers) tensors go to the CPU, and not to the GPU that they
    were saved from: this machine may have none, and each process would take memory of the first.

    Raises:
        CheckpointError: It can't be read, or is no checkpoint.
    """
    content = read_checkpoint(os.path.expanduser(filename), _place(map_location))
    check_content(content, f'Checkpoint {filename}')
    # On resuming, mmengine runs this text as a config; no release since 1.0 of its plugins writes it.
    if isinstance(content.get('meta'), dict):
        content['meta'].pop('config', None)
    return content


read_local.restricted = True  # type: ignore[attr-defined]


def _with_restrictions(loader: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(loader)
    def read(filename: str, *args: Any, **options: Any) -> Any:
        before = torch.load
        torch.load = partial(_load, filename)
        try:
            return loader(filename, *args, **options)
        finally:
            torch.load = before

    read.restricted = True  # type: ignore[attr-defined]
    return read


def _load(name: str, file: Any, map_location: Any = None, **_: Any) -> Any:
    """``torch.load`` for what a host has downloaded as ``name``, a file or its bytes."""
    if isinstance(file, (str, os.PathLike)):
        with open(file, 'rb') as opened:
            compare_with_name(os.fspath(file), opened)
        return read_checkpoint(file, _place(map_location))
    compare_with_name(name, file)
    return load_restricted(file, _place(map_location))


def _place(map_location: Any) -> Any:
    return 'cpu' if map_location is None else map_location


def compare_with_name(name: str, file: IO[bytes]) -> None:
    """Warn of a download that has another SHA-256 than its name says.

    It is no error: mmengine's CheckpointHook, for one, names what it publishes by another hash.
    """
    named = NAMED.search(name)
    if named is None or DATE.match(named[1]):
        return
    found = hash_content(file)
    file.seek(0)
    if not found.startswith(named[1]):
        print_log(
            f'Checkpoint {name}: by its name, its SHA-256 begins with {named[1]}, but that of this file '
            f'is {found}. Either the file was changed, or its name means something else: ask where it '
            'comes from.',
            logger='current',
            level=logging.WARNING,
        )
