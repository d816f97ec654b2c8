"""Folders of classes, as training will read them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from configuring.data_folder import read_data_folder
from mmkdlayer.errors import DataError


def test_counts(folder: Path) -> None:
    data = read_data_folder(os.path.relpath(folder))
    assert data.root == str(folder)
    assert data.classes == ['class_0', 'class_1', 'class_2']
    assert (data.images, data.fewest, data.val, data.test) == (24, 8, 'val', 'val')


def test_val_and_test(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / 'data'
    shutil.copytree(folder, root)
    shutil.copytree(folder / 'val', root / 'test')
    data = read_data_folder(str(root))
    assert (data.val, data.test, len(data.classes)) == ('val', 'test', 3)


def test_classes_that_differ_would_shift_the_labels(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / 'data'
    shutil.copytree(folder, root)
    shutil.rmtree(root / 'val' / 'class_1')
    with pytest.raises(DataError, match='class_1'):
        read_data_folder(str(root))


def test_hidden_folder_is_a_class_for_mmpretrain(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / 'data'
    shutil.copytree(folder, root)
    (root / 'train' / '.cache').mkdir()
    with pytest.raises(DataError, match='hidden folder .*/train/.cache'):
        read_data_folder(str(root))
    (root / 'val' / '.cache').mkdir()
    with pytest.raises(DataError, match='hidden folder .*/train/.cache'):
        read_data_folder(str(root))


def test_images_that_are_not_split(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the folders \['class_0', .*To split .*docs/datasets.md"):
        read_data_folder(str(folder / 'train'))
    for split in ('train', 'val'):
        shutil.copytree(folder / split / 'class_0', tmp_path / split / 'class_0')
    with pytest.raises(DataError, match='expected two classes or more, but train/ has 1'):
        read_data_folder(str(tmp_path))


def test_class_without_images(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / 'data'
    shutil.copytree(folder, root)
    for split in ('train', 'val'):
        (root / split / 'class_3').mkdir()
    with pytest.raises(DataError, match="'class_3'"):
        read_data_folder(str(root))
