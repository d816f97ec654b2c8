"""A small folder of classes, and small settings for the commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import write_images
from mmengine.registry import init_default_scope


@pytest.fixture(scope='session')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 classes with 8 training and 2 validation images."""
    root = write_images(tmp_path_factory.mktemp('folder'), train=8, test=2)
    (root / 'test').rename(root / 'val')
    return root


@pytest.fixture(autouse=True)
def scope() -> None:
    init_default_scope('mmpretrain')
