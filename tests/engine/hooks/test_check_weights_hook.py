"""Which weights a training may start from."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest
import torch
from mmengine.runner import Runner
from seeded_training import make_config

from mmkdlayer.checkpoints import read_checkpoint
from mmkdlayer.errors import CheckpointError, ConfigError


def test_resuming_another_network_is_refused(
    train: Callable[..., Runner], distillation_config: Callable[..., dict], tmp_path: Path
) -> None:
    train()
    cfg = make_config(distillation_config(student_channels=5), tmp_path / 'work', resume=True)
    cfg.experiment_name = f'{tmp_path.name}-other'
    with pytest.raises(ConfigError, match='does not fit this config'):
        Runner.from_cfg(cfg).train()


def test_given_teacher_checkpoint_must_fit(
    train: Callable[..., Runner], distillation_config: Callable[..., dict], tmp_path: Path
) -> None:
    path = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict={'head.fc.bias': torch.zeros(1)}), path)
    with pytest.raises(CheckpointError, match=r'missing .*is \(1,\) there'):
        train(model=distillation_config(teacher_ckpt=str(path)))


def test_load_from_another_network_is_refused(
    train: Callable[..., Runner], distillation_config: Callable[..., dict], tmp_path: Path
) -> None:
    torch.save(dict(state_dict={'foo.weight': torch.zeros(1)}), tmp_path / 'foreign.pth')
    with pytest.raises(ConfigError, match='does not fit this config'):
        train(load_from=str(tmp_path / 'foreign.pth'))


def test_load_from_may_bring_a_part(train: Callable[..., Runner], tmp_path: Path) -> None:
    train('first')
    state = read_checkpoint(tmp_path / 'first' / 'epoch_1.pth')['state_dict']
    part = {key: value for key, value in state.items() if 'kd_layers' not in key}
    torch.save(dict(state_dict=part), tmp_path / 'part.pth')
    assert train('second', load_from=str(tmp_path / 'part.pth')).epoch == 1


def test_untrained_teacher_is_warned_of_before_and_after(
    train: Callable[..., Runner], distillation_config: Callable[..., dict], tmp_path: Path
) -> None:
    runner = train('random')
    path = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=runner.model.teacher.state_dict()), path)
    train('trained', model=distillation_config(teacher_ckpt=str(path)))
    for name, warnings in (('random', 2), ('trained', 0)):
        (log,) = (tmp_path / name).glob('*/*.log')
        assert log.read_text().count('THE TEACHER IS UNTRAINED') == warnings
