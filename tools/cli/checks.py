"""What the commands check before anything is built."""

from __future__ import annotations

import inspect
import os
import tempfile
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmpretrain.registry import DATASETS

from mmkdlayer.checkpoints import read_checkpoint
from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.pipelines import find_datasets
from mmkdlayer.type_names import type_name


def check_data_roots(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Raise a DataError where a data root is not there (and the data set can't download it).

    Also where a data set of class folders has others than its classes.

    Args:
        cfg: The config.
        loaders: Names of the data loaders to check.
    """
    for loader in loaders:
        for path, dataset in find_datasets(cfg.get(loader), loader):
            root = str(dataset['data_root'])
            prefix = dataset.get('data_prefix')
            folder = os.path.join(root, prefix) if isinstance(prefix, str) else root
            if '://' in root:
                continue
            if os.path.isdir(folder):
                _check_class_folders(path, dataset, folder)
                continue
            kind = dataset['type']
            dataset_class = kind if inspect.isclass(kind) else DATASETS.get(kind)
            if dataset_class and 'download' in inspect.signature(dataset_class).parameters:
                continue
            raise DataError(
                f'{path} ({type_name(kind)}): there is no folder {folder}. Put the data there, or give '
                'the place of all data with --data-root ROOT (of one data set: --cfg-options '
                f'{path}.data_root=ROOT).'
            )


def _check_class_folders(path: str, dataset: Any, folder: str) -> None:
    """A CustomDataset without a list of files has a folder for each of its classes."""
    classes = dataset.get('classes')
    listed = dataset.get('ann_file') or not dataset.get('with_label', True)
    if classes is None or listed or type_name(dataset['type']) != 'CustomDataset':
        return
    found = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    found = [name for name in found if not name.startswith('.')]
    if found and len(found) == len(classes):
        return
    missing, others = sorted(set(classes) - set(found)), sorted(set(found) - set(classes))
    raise DataError(
        f'{path}: expected a folder for each of the {len(classes)} classes in {folder}, but found '
        f'{len(found)} (missing: {", ".join(missing[:5]) or "none"}; unknown: '
        f'{", ".join(others[:5]) or "none"}). Put the images of each class into a folder of its own, '
        'in the same way for training and testing.'
    )


def check_checkpoints(cfg: Config) -> None:
    """Read the files that training starts from once, so that a damaged one is a clear error.

    Raises:
        CheckpointError: A file is not there or can't be read.
    """
    load_from = cfg.get('load_from')
    latest = Path(cfg.work_dir, 'last_checkpoint')
    if cfg.get('resume') and load_from is None and latest.is_file():
        load_from = latest.read_text().strip()
    for path in (cfg.get('model', {}).get('teacher_ckpt'), load_from):
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
