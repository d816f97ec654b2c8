"""A training with a teacher that has a file, on images of a class with a nasty name, and its report."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from command_fixtures import images, main  # noqa: F401
from command_line import CONFIG, TINY, arguments, run
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

EVIL = '<script>'


@pytest.fixture(scope='session')
def evil_images(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    folder = tmp_path_factory.mktemp('evil') / 'images'
    shutil.copytree(images, folder)
    for split in ('train', 'test'):
        (folder / split / 'class_0').rename(folder / split / EVIL)
    return folder


@pytest.fixture(scope='session')
def work(evil_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work dir of a training of one epoch; not to be changed. Its teacher is teacher.pth."""
    pytest.importorskip('mmrazor', reason='distillation needs mmrazor')
    folder = tmp_path_factory.mktemp('reported')
    cfg = Config.fromfile(CONFIG)
    options = {k: v for k, v in TINY.items() if k.startswith('model.')}
    cfg.merge_from_dict(dict(options, **{'model.teacher.head.num_classes': 3}))
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    torch.save(MODELS.build(cfg.model.teacher).state_dict(), folder / 'teacher.pth')
    run('train.py', command_line(folder, evil_images, '--work-dir', folder, checkpoint=False))
    return folder


def command_line(
    work: Path, data: Path, *more: object, checkpoint: bool = True, **options: object
) -> list[str]:
    """Arguments of a command on this training."""
    first = [work / 'epoch_1.pth'] if checkpoint else []
    options = dict(model__teacher_ckpt=work / 'teacher.pth', **options)
    return arguments(CONFIG, *first, *more, data=data, **options)


@pytest.fixture(scope='session')
def report(work: Path, evil_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the training's report."""
    out = tmp_path_factory.mktemp('report')
    run('report.py', command_line(work, evil_images, '--out', out))
    return out / 'index.html'
