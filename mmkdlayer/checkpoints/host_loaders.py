"""Lets the host libraries read weights as this package does."""

from __future__ import annotations

import os
from functools import wraps
from typing import Any, Callable

import torch
from mmengine.runner import CheckpointLoader

from .contents import check_content
from .loading import load_restricted
from .reading import read_checkpoint


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
        torch.load = _load  # type: ignore[assignment]
        try:
            return loader(filename, *args, **options)
        finally:
            torch.load = before

    read.restricted = True  # type: ignore[attr-defined]
    return read


def _load(file: Any, map_location: Any = None, **_: Any) -> Any:
    """``torch.load`` for what a host has downloaded, a file or its bytes."""
    if isinstance(file, (str, os.PathLike)):
        return read_checkpoint(file, _place(map_location))
    return load_restricted(file, _place(map_location))


def _place(map_location: Any) -> Any:
    return 'cpu' if map_location is None else map_location
