"""Looks at a folder of classes: ROOT/train/<class>/*.jpg and ROOT/val or ROOT/test likewise."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mmpretrain.datasets import CustomDataset

from mmkdlayer.errors import DataError


@dataclass
class DataFolder:
    """What a folder of classes holds.

    Attributes:
        root: Its absolute path.
        classes: Names of the classes, in the order of their labels.
        images: Training images in all.
        fewest: Training images of the smallest class.
        val: Subfolder that validates.
        test: Subfolder that tests.
    """

    root: str
    classes: list[str]
    images: int
    fewest: int
    val: str
    test: str


def look_at(root: str) -> DataFolder:
    """Count classes and images the way that training will.

    Raises:
        DataError: Folders are missing, a class has no image, or the splits have other classes.
    """
    layout = 'Expected ROOT/train/<class>/<image> and ROOT/val/<class>/<image> (or test).'
    folder = Path(os.path.abspath(root))
    splits = [name for name in ('val', 'test') if _class_names(folder / name)]
    if not (folder / 'train').is_dir() or not splits:
        found = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
        raise DataError(
            f'--data {root}: {layout} Found '
            f'{f"the folders {found[:10]}" if folder.is_dir() else "no such folder"}.'
        )
    classes = _class_names(folder / 'train')
    if len(classes) < 2:
        raise DataError(f'--data {root}: train/ has {len(classes)} class folders. {layout}')
    for split in splits:
        other = _class_names(folder / split)
        if other != classes:
            missing = sorted(set(classes) ^ set(other))
            raise DataError(
                f'--data {root}: train/ and {split}/ must have the same class folders, because labels '
                f'are their positions in sorted order, but they differ in {missing[:5]}. Make the '
                'missing folders, or take away what is no class.'
            )
    try:
        data = CustomDataset(data_root=str(folder), data_prefix='train', serialize_data=False)
        counts = Counter(data.get_gt_labels().tolist())
    except (RuntimeError, FileNotFoundError) as error:
        raise DataError(f'--data {root}: train/ has no images ({error}). {layout}') from error
    empty = [name for label, name in enumerate(classes) if not counts[label]]
    if empty:
        raise DataError(
            f'--data {root}: every class needs training images, but {empty[:5]} have none.'
        )
    return DataFolder(str(folder), classes, len(data), min(counts.values()), splits[0], splits[-1])


def _class_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    # As mmpretrain does it, for which hidden folders are classes too.
    return sorted(p.name for p in folder.iterdir() if p.is_dir())
