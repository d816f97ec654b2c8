"""The command that writes configs: its options, and what it says."""

from __future__ import annotations

import argparse
import re
import runpy
import sys
from pathlib import Path

import pytest
from command_line import ROOT
from mmengine.config import Config
from pairs import RESNET

from configuring import PairOptions


def test_command_lists_candidates(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    out = str(tmp_path / 'pair.py')
    line = ['tnt-small-p16_3rdparty_in1k', RESNET, '--data', str(folder), '--image-size', '224']
    monkeypatch.setattr(sys, 'argv', ['make_config.py', *line, '--out', out])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / 'tools' / 'make_config.py'), run_name='__main__')
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    assert 'error: The teacher tnt-small-p16_3rdparty_in1k' in errors
    assert re.search(r'backbone\.layers\.11 +TnTLayer +.*:1 \(1, 197, 384\)', errors)
    assert 'Traceback' not in errors
    assert list(tmp_path.iterdir()) == []


def test_command_offers_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, 'argv', ['make_config.py', 'a', 'b', '--data', 'c', '--out', 'd', '--lr', '0.5']
    )
    options = runpy.run_path(str(ROOT / 'tools' / 'make_config.py'))['parse_args']()
    assert isinstance(options, argparse.Namespace)
    del options.debug
    assert PairOptions(**vars(options)) == PairOptions('a', 'b', 'c', 'd', rate=0.5)
    assert set(vars(options)) == set(PairOptions.__dataclass_fields__)


def run_command(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str) -> None:
    line = [RESNET, RESNET, '--data', str(folder), *options]
    monkeypatch.setattr(sys, 'argv', ['make_config.py', *line])
    runpy.run_path(str(ROOT / 'tools' / 'make_config.py'), run_name='__main__')


@pytest.mark.parametrize('rate', ['-1', '0', 'nan', 'inf', 'fast'])
def test_learning_rates_that_are_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, rate: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        run_command(monkeypatch, folder, '--out', 'pair.py', f'--lr={rate}')
    assert stop.value.code == 2
    assert f"argument --lr: expected a finite number above 0, but got '{rate}'" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ('size', 'init', 'epochs'), [(None, 'none', 240), (72, 'none', 100), (None, '', 30)]
)
def test_command_says_what_comes_next(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    size: int | None,
    init: str,
    epochs: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    more = [] if size is None else ['--image-size', str(size)]
    start = ['--teacher-init', init] if init else []
    run_command(monkeypatch, folder, '--out', 'a.py', '--teacher-out', 'my t.py', *start, *more)
    assert Config.fromfile('my t.py').train_cfg.max_epochs == epochs
    output = capsys.readouterr().out
    checkpoint = f"'work_dirs/my t/epoch_{epochs}.pth'"
    assert "Train the teacher: python -m mmkdlayer train 'my t.py'\n" in output
    assert (
        f'python -m mmkdlayer train a.py --cfg-options model.teacher_ckpt={checkpoint}\n' in output
    )
    assert f'--teacher-ckpt {checkpoint} --force' in output
    assert ('fine-tuned from https://' in output) == (not init)
    assert ('Hint: The teacher starts from scratch' in output) == bool(init)
    run_command(monkeypatch, folder, '--out', 'b.py', *more)
    assert '--teacher-out TEACHER_FILE --force' in capsys.readouterr().out


def test_command_hints_at_maps_of_few_positions(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run_command(monkeypatch, folder, '--out', str(tmp_path / 'a.py'), '--image-size', '16')
    output = capsys.readouterr().out
    assert 'Hint: penult: the map is only 2x2' in output
    assert '--image-size than 16' in output
