"""A small folder of classes, and small settings for the commands."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Callable

import pytest
from command_line import ROOT, write_images
from mmengine.registry import init_default_scope

FAST = [
    f'{split}_dataloader.{key}={value}'
    for split in ('train', 'val')
    for key, value in (('num_workers', 0), ('persistent_workers', False))
]


@pytest.fixture(scope='session')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 classes with 8 training and 2 validation images."""
    root = write_images(tmp_path_factory.mktemp('folder'), train=8, test=2)
    (root / 'test').rename(root / 'val')
    return root


@pytest.fixture(autouse=True)
def scope() -> None:
    init_default_scope('mmpretrain')


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Path], str]:
    """Run tools/train.py in this process; give its log."""

    def call(config: Path) -> str:
        options = [*FAST, 'default_hooks.logger.interval=1']
        line = [str(config), '--work-dir', str(tmp_path / 'work'), '--cfg-options', *options]
        monkeypatch.setattr(sys, 'argv', ['train.py', *line])
        runpy.run_path(str(ROOT / 'tools' / 'train.py'), run_name='__main__')
        (log,) = (tmp_path / 'work').glob('*/*.log')
        return log.read_text()

    return call
