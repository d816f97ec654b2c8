"""The export command with its options, and what it says to bad ones."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Callable

import pytest
import torch
from command_line import CONFIG, TINY, arguments, load_tool
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
        (['--max-drop', 'none'], '--max-drop POINTS expects --int8 DATA'),
        (['--int8', 'nowhere'], 'nowhere: expected a folder of images'),
        (['--int8', '{images}/test/class_0'], '"--max-drop none" to write student_int8.onnx'),
    ],
)
def test_options_that_do_not_fit(
    options: list[str], words: str, main: Main, images: Path, tmp_path: Path, checkpoint: Path
) -> None:
    out = tmp_path / 'student'
    options = [option.format(images=images) for option in options]
    line = arguments(CONFIG, checkpoint, '--out', out, *options, data=images)
    code, errors = main('export_student.py', line)
    assert code == 2
    assert words in errors[errors.rindex('\nerror: ') :]
    assert not out.exists() or not list(out.iterdir())


@pytest.mark.parametrize(('points', 'found'), [('0', 0.0), ('2.5', 2.5), ('none', math.inf)])
def test_points(points: str, found: float) -> None:
    assert load_tool('export_student').points(points) == found


@pytest.mark.parametrize('points', ['-1', '101', 'nan', 'inf', 'few'])
def test_points_that_are_none(points: str) -> None:
    with pytest.raises(
        argparse.ArgumentTypeError, match='expected a number from 0 to 100, or none'
    ):
        load_tool('export_student').points(points)
