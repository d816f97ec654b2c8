"""What the commands check before anything is built."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmkdlayer.checkpoints import read_checkpoint
from mmkdlayer.errors import ConfigError

from .bad_images import handle_images
from .data_sets import as_names, check_classes, open_data_sets


def check_data(
    cfg: Config,
    loaders: tuple[str, ...],
    checkpoint: str = '',
    meta: Mapping[str, Any] | None = None,
    args: argparse.Namespace | None = None,
) -> None:
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
    stored = (meta or {}).get('dataset_meta')
    names = stored.get('classes') if isinstance(stored, dict) else None
    data_sets = open_data_sets(cfg, loaders)
    check_classes(data_sets, as_names(names), checkpoint)
    if args is not None:
        handle_images(cfg, data_sets, args)


def check_checkpoints(cfg: Config) -> None:
    """Read the files that training starts from once, so that a damaged one is a clear error.

    Raises:
        CheckpointError: A file is not there or can't be read.
    """
    model = cfg.get('model', {})
    for path in (model.get('teacher_ckpt'), cfg.get('load_from'), cfg.get('init_from')):
        if path and '://' not in str(path):
            read_checkpoint(path)


def check_writable(folder: str) -> None:
    """Raise a ConfigError where a folder can't be made or written."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f'Folder {folder} must be writable, but it is not ({error}). Choose another one, with '
            '--work-dir or --out.'
        ) from error
