"""Looks at a folder of classes: ROOT/train/<class>/*.jpg and ROOT/val or ROOT/test likewise."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.data_sets import check_classes, open_data_set
from mmkdlayer.errors import DataError

LAYOUT = 'Expected ROOT/train/<class>/<image> and ROOT/val/<class>/<image> (or test).'
SPLIT = ' To split one folder of images a class in two, see docs/datasets.md.'
#: Files that count as images: those that mmpretrain reads by itself, and two more that its loader can.
EXTENSIONS = ['.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif', '.tiff', '.webp']


@dataclass
class DataFolder:
    """What a folder of classes holds."""

    root: str  #: its absolute path
    classes: list[str]  #: names of the classes, in the order of their labels
    images: int  #: training images in all
    fewest: int  #: training images of the smallest class
    val: str  #: subfolder that validates
    test: str  #: subfolder that tests


def read_data_folder(root: str) -> DataFolder:
    """Count classes and images the way that training will.

    Raises:
        DataError: Folders are missing, a class has no image, or the splits have other classes.
    """
    folder = Path(os.path.abspath(os.path.expanduser(root)))
    splits = [split for split in ('val', 'test') if _has_folders(folder / split)]
    if not (folder / 'train').is_dir() or not splits:
        there = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
        found = f'the folders {there[:10]}' if folder.is_dir() else 'no such folder'
        raise DataError(f'--data {root}: {LAYOUT} Found {found}.{SPLIT if folder.is_dir() else ""}')
    config = dict(type='CustomDataset', data_root=str(folder), extensions=EXTENSIONS)
    data_sets = [
        open_data_set(f'--data {root}', dict(config, data_prefix=split))
        for split in ('train', *splits)
    ]
    classes = data_sets[0].folders or []
    if len(classes) < 2:
        raise DataError(
            f'--data {root}: expected two classes or more, but train/ has {len(classes)}. {LAYOUT}'
        )
    check_classes(data_sets)
    train: Any = data_sets[0].opened
    try:
        train.full_init()
    except RuntimeError as error:
        raise DataError(f'--data {root}: train/ has no images ({error}). {LAYOUT}') from error
    counts = Counter(train.get_gt_labels().tolist())
    empty = [name for label, name in enumerate(classes) if not counts[label]]
    if empty:
        raise DataError(
            f'--data {root}: every class needs training images, but {empty[:5]} have none.'
        )
    return DataFolder(str(folder), classes, len(train), min(counts.values()), splits[0], splits[-1])


def _has_folders(folder: Path) -> bool:
    return folder.is_dir() and any(path.is_dir() for path in folder.iterdir())
