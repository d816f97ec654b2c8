"""The config that trains the student of a pair alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from pairs import pair_options

from configuring import make_config
from configuring.dkd import check_dkd
from mmkdlayer.errors import ConfigError


def test_a_baseline_has_the_students_recipe(train: Callable, folder: Path, tmp_path: Path) -> None:
    out, baseline = tmp_path / 'pair.py', tmp_path / 'others' / 'alone.py'
    pair = make_config(pair_options(folder, out, baseline_out=str(baseline)))
    cfg, alone = Config.fromfile(out), Config.fromfile(baseline)
    assert alone.model == cfg.model.architecture
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'train_dataloader'):
        assert alone[key] == cfg[key]
    (hint,) = (hint for hint in pair.hints if 'student starts from scratch' in hint)
    assert '--init-from' in hint
    log = train(baseline)
    assert re.search(r'Epoch\(train\) +\[1\]\[2/2\].* loss: \d', log)
    assert 'Fitting' not in log and 'loss_penult' not in log


def test_a_baseline_needs_a_file_of_its_own(folder: Path, tmp_path: Path) -> None:
    out = str(tmp_path / 'pair.py')
    with pytest.raises(ConfigError, match='--baseline-out and --dkd-out must be different files'):
        make_config(pair_options(folder, Path(out), baseline_out=out))
    assert not list(tmp_path.iterdir())


def test_dkd_beside_kd_layers_trains(train: Callable, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / 'pair.py'
    make_config(pair_options(folder, out, dkd=True))
    log = train(out)
    for name in ('dkd', 'inter', 'penult'):
        assert re.search(rf'\[2/2\].*loss_{name}: \d', log)


@pytest.mark.parametrize('dkd', [True, False])
def test_dkd_alone_trains(train: Callable, folder: Path, tmp_path: Path, dkd: bool) -> None:
    out, other = tmp_path / 'pair.py', tmp_path / 'others' / 'dkd.py'
    make_config(pair_options(folder, out, dkd=dkd, dkd_out=str(other)))
    cfg, alone = Config.fromfile(out), Config.fromfile(other)
    assert list(cfg.model.distiller.kd_layers) == ['inter', 'penult']
    assert ('distill_losses' in cfg.model.distiller) == dkd
    assert not alone.model.distiller.kd_layers
    assert alone.model.architecture == cfg.model.architecture
    log = train(other)
    assert re.search(r'\[2/2\].*loss_dkd: \d', log)
    assert 'loss_inter' not in log and 'Fitting' not in log


def test_dkd_of_a_student_with_two_heads(folder: Path, tmp_path: Path) -> None:
    options = dict(student='conformer-tiny-p16_3rdparty_in1k', image_size=64, letkd1=True)
    out = tmp_path / 'pair.py'
    with pytest.raises(ConfigError, match='--dkd and --dkd-out compare the logits .*gives tuple'):
        make_config(pair_options(folder, out, **options, dkd=True))
    assert not list(tmp_path.iterdir())


class Records:
    """A distiller that has recorded these things."""

    def __init__(self, **records: object) -> None:
        self.records = records

    def get_record(self, recorder: str, from_student: bool, **_: int) -> object:
        return self.records[f'{"student" if from_student else "teacher"}_{recorder}']


LOGITS, CLASSES = torch.zeros(2, 3), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ('records', 'message'),
    [
        (
            dict(student_logits=LOGITS, student_labels=CLASSES),
            "the teacher's `head` gives NoneType",
        ),
        (
            dict(student_logits=torch.zeros(2, 4), teacher_logits=LOGITS, student_labels=CLASSES),
            r"the student's `head` gives \(2, 4\)",
        ),
        (
            dict(student_logits=LOGITS, teacher_logits=LOGITS, student_labels=LOGITS),
            'need class indices',
        ),
    ],
)
def test_records_that_dkd_can_not_compare(records: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_dkd(Records(**records), 3)


def test_records_that_dkd_compares() -> None:
    check_dkd(Records(student_logits=LOGITS, teacher_logits=LOGITS, student_labels=CLASSES), 3)
