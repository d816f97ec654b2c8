"""Values of a config that are of another kind than what reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional, Union

import pytest
from command_line import CONFIG
from mmengine.config import Config
from torch import nn

from cli.kinds import admits, check_kinds
from mmkdlayer.config_variables import read_config
from mmkdlayer.errors import ConfigError


@pytest.fixture(scope='module')
def cfg(images_of_kinds: Any) -> Config:
    return read_config(CONFIG, data_root=str(images_of_kinds))


@pytest.fixture(scope='module')
def images_of_kinds(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp('data')
    (folder / 'train' / 'class_0').mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ('entry', 'value', 'expected'),
    [
        ('model', 5, 'a dict'),
        ('model.architecture', 5, 'a dict or None'),
        ('custom_hooks', 5, 'a list or None'),
        ('default_hooks', 'all', 'a dict or None'),
        ('val_cfg', 5, 'a dict or None'),
        ('train_dataloader', 5, 'a dict or None'),
        ('train_dataloader.num_workers', 2.5, 'a whole number'),
        ('val_dataloader.batch_size', 'abc', 'a whole number or None'),
        ('train_dataloader.dataset.pipeline', 5, 'a list or None'),
        ('randomness.seed', 'abc', 'a whole number or None'),
        ('resume', 'yes', 'True or False'),
        ('compile', 'yes', 'a dict or True or False'),
        ('default_hooks.checkpoint.interval', 'abc', 'a whole number'),
        ('train_cfg.val_begin', 'abc', 'a whole number'),
        ('param_scheduler.T_max', 'abc', 'a whole number or None'),
        ('optim_wrapper.clip_grad.max_norm', 'abc', 'a number'),
        ('optim_wrapper.paramwise_cfg', 5, 'a dict or None'),
        ('optim_wrapper.paramwise_cfg.custom_keys', 5, 'a dict or None'),
    ],
)
def test_values_of_another_kind(cfg: Config, entry: str, value: Any, expected: str) -> None:
    changed = Config(cfg.to_dict())
    changed.merge_from_dict({entry: value})
    with pytest.raises(ConfigError, match=f'^{entry} is {value!r}, but expected {expected}.$'):
        check_kinds(changed)


def test_values_of_hooks_in_a_list() -> None:
    hooks = [dict(type='EMAHook'), dict(type='mmkdlayer.KDMetricsHook', interval='often')]
    with pytest.raises(ConfigError, match=r"custom_hooks\.1\.interval is 'often'"):
        check_kinds(Config(dict(custom_hooks=hooks)))


def test_values_that_are_right(cfg: Config) -> None:
    check_kinds(cfg)
    check_kinds(Config(dict(custom_hooks=[dict(type='NoSuchHook', a=1), nn.Identity()])))
    check_kinds(Config(dict(experiment_name=2026, log_level=10, train_cfg=dict(max_epochs=2.0))))


@pytest.mark.parametrize(
    ('hint', 'yes', 'no'),
    [
        (int, [1, True, 2.0], ['1', 1.5]),
        (float, [1, 1.5], ['1.5']),
        (bool, [True, 1], ['yes']),
        (str, ['a', 1], [True]),
        (Optional[int], [1], ['1']),
        (Union[int, str], [1, 'a'], []),
        (Mapping[str, int], [], [1, 'a']),
        (list, [], [1, 'a']),
        (Sequence[str], ['a'], [1]),
        (Union[nn.Module, dict], ['a text that a host may build from'], [1]),
        (Callable[[], int], ['a name'], [1]),
        (Any, [1, 'a'], []),
    ],
)
def test_what_a_hint_admits(hint: Any, yes: list, no: list) -> None:
    assert all(admits(hint, value) for value in yes)
    assert not any(admits(hint, value) for value in no)
