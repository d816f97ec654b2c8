"""What the commands check before anything is built."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmkdlayer.atomic import is_stream
from mmkdlayer.checkpoints import read_checkpoint
from mmkdlayer.errors import ConfigError

from .data_sets import DataSet, check_classes, check_stored_classes, open_data_sets
from .images import check_images


def check_data(
    cfg: Config,
    loaders: tuple[str, ...],
    checkpoint: str = '',
    meta: Mapping[str, Any] | None = None,
    args: argparse.Namespace | None = None,
) -> list[DataSet]:
    """Check the data sets of some loaders: folders, lists, the names of the classes, and the images.

    Args:
        cfg: The config.
        loaders: Names of the data loaders.
        checkpoint: A trained checkpoint, for messages.
        meta: Its meta data, whose classes must be those of the data.
        args: The options of :func:`add_image_options`; None checks no images.

    Raises:
        DataError: Something is not there, the data sets (or the checkpoint) have other classes, or
            images can't be read.
    """
    data_sets = open_data_sets(cfg, loaders)
    check_classes(data_sets)
    check_stored_classes(data_sets, meta, checkpoint)
    if args is not None:
        check_images(cfg, data_sets, args)
    for data in data_sets:
        data.opened = None  # lists of images may be long, and training reads its own
    return data_sets


def check_checkpoints(cfg: Config, data_sets: list[DataSet]) -> None:
    """Read the files that training starts from once, so that a damaged one is a clear error.

    Raises:
        CheckpointError: A file is not there or can't be read.
        DataError: The teacher, or a training that is resumed, had other classes than the data sets.
    """
    for key in ('load_from', 'init_from'):
        if start := cfg.get(key):
            meta = _read_meta(str(start))
            if key == 'load_from' and cfg.get('resume'):
                check_stored_classes(data_sets, meta, str(start))
    if teacher := cfg.get('model', {}).get('teacher_ckpt'):
        check_stored_classes(data_sets, _read_meta(str(teacher)), str(teacher), other_names=True)


def _read_meta(path: str) -> Any:
    """The ``meta`` of a checkpoint; None where it has none, or is not here."""
    if '://' in path:
        return None
    content = read_checkpoint(path)
    return content.get('meta') if isinstance(content, dict) else None


def check_out_file(path: str) -> None:
    """Raise a ConfigError where a file can't be written, before hours of work for it."""
    if os.path.isdir(path):
        raise ConfigError(f'--out {path} is a folder, but must be a file. Name a file in it.')
    if path in ('', '-'):
        raise ConfigError(f'--out expects the name of a file, or /dev/stdout, but got "{path}".')
    if not (is_stream(path) and os.access(path, os.W_OK)):
        check_writable(os.path.dirname(path) or '.')


def check_writable(folder: str) -> None:
    """Raise a ConfigError where a folder can't be made or written."""
    if not folder:
        raise ConfigError('Expected the name of a folder to write to, but it is empty.')
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f'Folder {folder} must be writable, but it is not ({error}). Choose another one, with '
            '--work-dir or --out.'
        ) from error
