"""Options of the training command that change how it trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

import pytest
from command_line import CONFIG, arguments, load_tool, recording_config, write_images
from mmengine.config import Config
from training_probes import read_losses

from mmkdlayer.models.decisions.files import read_decision_file

Main = Callable[[str, list[str]], tuple[int, str]]


def learning_rates(work: Path) -> list[float]:
    (file,) = work.glob('*/vis_data/scalars.json')
    lines = map(json.loads, file.read_text().splitlines())
    return [line['lr'] for line in lines if 'lr' in line]


def test_bad_images(main: Main, tmp_path: Path) -> None:
    data = write_images(tmp_path / 'data')
    (data / 'train/class_0/0.png').write_bytes(b'')
    (data / 'test/class_2/1.png').write_text('<html></html>')
    work = tmp_path / 'work'
    line = arguments(CONFIG, '--work-dir', work, data=data)
    code, errors = main('train.py', line)
    assert code == 2
    error = errors[errors.rindex('\nerror: ') :].strip()
    assert '\n' not in error and 'class_0/0.png (empty file)' in error
    assert 'class_2/1.png (no known image format)' in error and '--skip-bad-images' in error
    code, errors = main('train.py', [*line[:1], '--skip-bad-images', *line[1:]])
    assert code == 0, errors
    assert '2 images left out' in errors
    # Fitting and validation read the same lists.
    file = work / 'decisions' / 'penult.safetensors'
    assert read_decision_file(file).provenance['data']['images'] == 29
    tested = arguments(CONFIG, work / 'epoch_1.pth', '--work-dir', work, data=data)
    code, errors = main('test.py', tested)
    assert code == 2 and 'error: 1 image can not be read' in errors


def test_amp_and_scaled_learning_rate(main: Main, images: Path, tmp_path: Path) -> None:
    config = recording_config(tmp_path)
    runs = {}
    for name, options in (('plain', ()), ('changed', ('--amp', 'bfloat16', '--auto-scale-lr'))):
        work = tmp_path / name
        line = arguments(
            config, '--work-dir', work, *options, data=images, auto_scale_lr__base_batch_size=32
        )
        code, errors = main('train.py', line)
        assert code == 0, errors
        runs[name] = (learning_rates(work), read_losses(work))
    # The batch is 8, the base 32.
    assert runs['changed'][0] == pytest.approx([lr / 4 for lr in runs['plain'][0]])
    # One epoch, and the schedule of the config ends with it.
    assert runs['plain'][0][-1] < 0.2 * runs['plain'][0][0]
    found, expected = runs['changed'][1][0], runs['plain'][1][0]
    assert found['loss'] != expected['loss']  # in bfloat16
    assert found['loss'] == pytest.approx(expected['loss'], rel=0.05)
    assert len(runs['changed'][1]) == 4


def test_resuming_where_there_is_no_checkpoint_yet(tmp_path: Path) -> None:
    cfg = Config(dict(work_dir=str(tmp_path), resume=True, load_from=None))
    notice = load_tool('train').choose_checkpoint(cfg)
    assert (
        notice
        == f'--resume: {tmp_path} has no checkpoint to continue from: training begins at its start.'
    )
    assert cfg.load_from is None
