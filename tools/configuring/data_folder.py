"""Looks at a folder of classes: ROOT/train/<class>/*.jpg and ROOT/val or ROOT/test likewise."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mmpretrain.datasets import CustomDataset

from mmkdlayer.errors import DataError

LAYOUT = 'Expected ROOT/train/<class>/<image> and ROOT/val/<class>/<image> (or test).'


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
    folder = Path(os.path.abspath(root))
    names = {split: _class_names(folder / split) for split in ('train', 'val', 'test')}
    splits = [split for split in ('val', 'test') if names[split]]
    if not (folder / 'train').is_dir() or not splits:
        found = f'the folders {_class_names(folder)[:10]}' if folder.is_dir() else 'no such folder'
        raise DataError(f'--data {root}: {LAYOUT} Found {found}.')
    classes = names['train']
    if len(classes) < 2:
        raise DataError(f'--data {root}: train/ has {len(classes)} class folders. {LAYOUT}')
    for split in splits:
        if names[split] != classes:
            raise DataError(
                f'--data {root}: train/ and {split}/ must have the same class folders, because labels '
                'are their positions in sorted order, but they differ in '
                f'{sorted(set(classes) ^ set(names[split]))[:5]}. Make the missing folders, or remove '
                'what is not a class.'
            )
    try:
        data = CustomDataset(data_root=str(folder), data_prefix='train', serialize_data=False)
    except (RuntimeError, FileNotFoundError) as error:
        raise DataError(f'--data {root}: train/ has no images ({error}). {LAYOUT}') from error
    counts = Counter(data.get_gt_labels().tolist())
    empty = [name for label, name in enumerate(classes) if not counts[label]]
    if empty:
        raise DataError(
            f'--data {root}: every class needs training images, but {empty[:5]} have none.'
        )
    return DataFolder(str(folder), classes, len(data), min(counts.values()), splits[0], splits[-1])


def _class_names(folder: Path) -> list[str]:
    # As mmpretrain does it, for which hidden folders are classes too.
    return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
