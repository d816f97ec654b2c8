"""The config that trains the student of a pair alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config
from pairs import pair_options

from configuring import make_config
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
    with pytest.raises(ConfigError, match='--baseline-out must be different files'):
        make_config(pair_options(folder, Path(out), baseline_out=out))
    assert not list(tmp_path.iterdir())
