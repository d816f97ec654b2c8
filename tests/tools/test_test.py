"""tools/test.py on a small classifier: whose config is not the trained one, or has no test settings."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree
from typing import Callable

import pytest
import torch
from conftest import tiny_classifier  # type: ignore[import-not-found]
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

Main = Callable[[str, list[str]], tuple[int, str]]
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=16),
    dict(type='PackInputs'),
]


@pytest.fixture
def trained(tmp_path: Path, images: Path) -> tuple[Path, Path]:
    """A config with validation settings alone, and a checkpoint that records it."""
    init_default_scope('mmpretrain')
    dataset = dict(type='CustomDataset', data_root=str(images / 'test'), pipeline=PIPELINE)
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            model=tiny_classifier(),
            val_dataloader=dict(
                batch_size=4,
                num_workers=0,
                dataset=dataset,
                sampler=dict(type='DefaultSampler', shuffle=False),
            ),
            val_evaluator=dict(type='Accuracy', topk=(1,)),
            val_cfg=dict(),
        )
    )
    (tmp_path / 'config.py').write_text(cfg.pretty_text)
    state = MODELS.build(cfg.model).state_dict()
    meta = dict(cfg=cfg.pretty_text, dataset_meta=dict(classes=('class_0', 'class_1', 'class_2')))
    torch.save(dict(state_dict=state, meta=meta), tmp_path / 'epoch_1.pth')
    return tmp_path / 'config.py', tmp_path / 'epoch_1.pth'


def test_validation_images_are_the_test_images(
    trained: tuple[Path, Path], tmp_path: Path, main: Main
) -> None:
    out = tmp_path / 'new' / 'metrics.json'
    line = [*map(str, trained), '--work-dir', str(tmp_path / 'work'), '--out', str(out)]
    code, errors = main('test.py', line)
    assert code == 0, errors
    assert 0 <= json.loads(out.read_text())['accuracy/top1'] <= 100


def test_a_config_that_is_not_the_trained_one(
    trained: tuple[Path, Path], tmp_path: Path, main: Main
) -> None:
    config = trained[0].read_text()
    trained[0].write_text(config.replace('scale=16', 'scale=32'))
    line = [*map(str, trained), '--work-dir', str(tmp_path / 'work')]
    code, errors = main('test.py', line)
    assert code == 2 and 'test_pipeline.1.scale is 32 here and was 16' in errors
    code, errors = main('test.py', [*line, '--config-as-given'])
    assert code == 0, errors


def test_mixed_precision(trained: tuple[Path, Path], tmp_path: Path, main: Main) -> None:
    line = [*map(str, trained), '--work-dir', str(tmp_path / 'work'), '--amp']
    code, errors = main('test.py', line)
    assert code == 0, errors
    assert 'fp16=True' in (tmp_path / 'work' / trained[0].name).read_text()


def test_images_are_checked_with_the_config_of_a_resumed_training(
    trained: tuple[Path, Path], tmp_path: Path, main: Main, images: Path
) -> None:
    text = trained[0].read_text().replace(str(images), str(tmp_path / 'data'))
    trained[0].write_text(f'{text}\nresume = True\n')
    copytree(images, tmp_path / 'data')
    (tmp_path / 'data/test/class_0/0.png').write_bytes(b'')
    line = [*map(str, trained), '--work-dir', str(tmp_path / 'work')]
    code, errors = main('test.py', line)
    assert code == 2 and 'class_0/0.png (empty file)' in errors
