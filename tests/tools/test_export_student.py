"""The export command with its options, and what it says to bad ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

import pytest
import torch
from command_line import CONFIG, TINY, arguments
from mmengine.registry import MODELS, init_default_scope

from mmkdlayer import load_student
from mmkdlayer.config_variables import read_config
from mmkdlayer.deploy import FoldedKDLayer

Main = Callable[[str, list[str]], tuple[int, str]]


@pytest.fixture
def checkpoint(tmp_path: Path, images: Path) -> Path:
    """An untrained student's."""
    cfg = read_config(CONFIG, TINY, data_root=str(images))
    init_default_scope('mmpretrain')
    state = MODELS.build(cfg.model).student.state_dict()
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict={f'architecture.{k}': v for k, v in state.items()}), path)
    return path


def test_all_options(main: Main, images: Path, tmp_path: Path, checkpoint: Path) -> None:
    out = tmp_path / 'student'
    (tmp_path / 'metrics.json').write_text(json.dumps({'accuracy/top1': 12.5}))
    options = ['--out', out, '--no-ema', '--prune-templates', 'train', '--prune-images', 9]
    options += ['--torchscript', '--license', 'mit', '--metrics', tmp_path / 'metrics.json']
    code, errors = main('export_student.py', arguments(CONFIG, checkpoint, *options, data=images))
    assert code == 0, errors
    written = sorted(file.name for file in out.iterdir())
    assert written == ['model_card.md', 'student.pt', 'student.pth', 'student.py']
    page = (out / 'model_card.md').read_text()
    for words in ('license: "mit"', '12.5', 'fire on the train images (9 images)', 'student.pt'):
        assert words in page
    layers = load_student(out).kd_layers.values()
    assert all(isinstance(layer, FoldedKDLayer) for layer in layers)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--ema'], 'no ema_state_dict'),
        (['--prune-images', '3'], '--prune-images 3 expects --prune-templates DATA'),
        (['--prune-templates', 'nowhere'], "'nowhere'"),
        (['--metrics', 'nowhere.json'], 'nowhere.json'),
    ],
)
def test_options_that_do_not_fit(
    options: list[str], words: str, main: Main, images: Path, tmp_path: Path, checkpoint: Path
) -> None:
    out = tmp_path / 'student'
    line = arguments(CONFIG, checkpoint, '--out', out, *options, data=images)
    code, errors = main('export_student.py', line)
    assert code == 2
    assert words in errors[errors.rindex('\nerror: ') :]
    assert not out.exists() or not list(out.iterdir())
