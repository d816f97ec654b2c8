"""Schedules that end elsewhere than the training are said, with both numbers."""

from __future__ import annotations

from typing import Any

import pytest
from mmengine.config import Config
from mmengine.optim import CosineAnnealingLR

from cli import check_schedules, schedule_warnings
from mmkdlayer.errors import ConfigError

COSINE = dict(type='CosineAnnealingLR', T_max=20, by_epoch=True, convert_to_iter_based=True)
WARM_UP = dict(type='LinearLR', start_factor=0.1, end=5)


def warnings(schedule: Any, **train_cfg: Any) -> list[str]:
    hooks = dict(checkpoint=dict(by_epoch='max_iters' not in train_cfg))
    cfg = dict(param_scheduler=schedule, train_cfg=train_cfg, default_hooks=hooks)
    return list(schedule_warnings(Config(cfg)))


@pytest.mark.parametrize(
    ('schedule', 'length', 'words'),
    [
        (COSINE, 4, ['param_scheduler (CosineAnnealingLR)', 'epoch 20', 'max_epochs is 4']),
        (dict(COSINE, type=CosineAnnealingLR), 4, ['CosineAnnealingLR', 'param_scheduler.T_max']),
        (COSINE, 30, ['epoch 20', 'max_epochs is 30', 'the last 10 epochs']),
        (dict(type='MultiStepLR', milestones=[3, 8]), 7, ['param_scheduler.milestones', 'epoch 8']),
        ([WARM_UP, dict(COSINE, begin=5, T_max=15)], 4, ['param_scheduler.0 ', 'epoch 5']),
        ([WARM_UP, dict(COSINE, begin=5, T_max=10)], 20, ['param_scheduler.1 ', 'epoch 15']),
        (dict(student=[COSINE], generator=None), 4, ['param_scheduler.student.0 ', 'epoch 20']),
        (dict(type='PolyLR', power=2, end=9), 8, ['param_scheduler.end', 'epoch 9']),
    ],
)
def test_another_end(schedule: Any, length: int, words: list[str]) -> None:
    text = warnings(schedule, max_epochs=length)[0]
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    ('schedule', 'train_cfg'),
    [
        (COSINE, dict(max_epochs=20)),
        ([WARM_UP, dict(COSINE, begin=5, T_max=15)], dict(max_epochs=20)),
        (WARM_UP, dict(max_epochs=20)),
        (dict(type='CosineAnnealingLR'), dict(max_epochs=4)),  # to the end, whatever that is
        ([WARM_UP, dict(type='CosineAnnealingLR', begin=5)], dict(max_epochs=20)),
        (dict(type='MultiStepLR', milestones=[3, 8]), dict(max_epochs=8)),  # as many recipes
        (dict(COSINE, by_epoch=False), dict(max_epochs=4)),
        (dict(COSINE, by_epoch=False), dict(max_iters=20)),
        (None, dict(max_epochs=4)),
        (COSINE, dict()),
    ],
)
def test_nothing_to_say(schedule: Any, train_cfg: dict) -> None:
    assert warnings(schedule, **train_cfg) == []


@pytest.mark.parametrize(
    ('entries', 'warned'),
    [
        (dict(train_cfg=dict(max_iters=4)), True),
        (dict(train_cfg=dict(max_iters=4), default_hooks=dict(checkpoint=dict(interval=2))), True),
        (dict(train_cfg=dict(max_iters=4), default_hooks=dict(checkpoint=None)), False),
        (dict(train_cfg=dict(max_epochs=4)), False),
    ],
)
def test_checkpoints_that_are_saved_at_the_end_only(entries: dict, warned: bool) -> None:
    found = list(schedule_warnings(Config(entries)))
    assert len(found) == warned
    assert not warned or 'Set default_hooks.checkpoint.by_epoch=False' in found[0]


def test_iterations() -> None:
    (text,) = warnings(dict(COSINE, by_epoch=False), by_epoch=False, max_iters=10)
    assert 'iter 20, but train_cfg.max_iters is 10' in text


@pytest.mark.parametrize(
    ('schedule', 'train_cfg', 'words'),
    [
        (
            [WARM_UP, dict(COSINE, begin=5)],
            dict(max_epochs=5),
            r'\.1 .* begins at epoch 5.*train_cfg.max_epochs=5\.',
        ),
        (
            dict(COSINE, begin=5),
            dict(max_epochs=1),
            r'param_scheduler \(.* begins at epoch 5.*=1\.',
        ),
        (
            dict(WARM_UP, begin=5),
            dict(max_epochs=9),
            r'\(LinearLR\) begins.* its end, param_scheduler.end=5',
        ),
        (dict(WARM_UP, by_epoch=False, begin=9), dict(max_iters=8), 'begins at iter 9'),
        (COSINE, dict(max_epochs=0), 'begins at epoch 0'),
    ],
)
def test_a_schedule_without_time(schedule: Any, train_cfg: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_schedules(Config(dict(param_scheduler=schedule, train_cfg=train_cfg)))


@pytest.mark.parametrize(
    'schedule',
    [
        None,
        WARM_UP,
        dict(WARM_UP, begin=7, end=9),
        [WARM_UP, dict(COSINE, begin=5)],
        dict(COSINE, by_epoch=False),
    ],
)
def test_a_schedule_with_time(schedule: Any) -> None:
    check_schedules(Config(dict(param_scheduler=schedule, train_cfg=dict(max_epochs=6))))
    check_schedules(Config(dict(param_scheduler=schedule)))


@pytest.mark.parametrize('interval', [0, -1, '5', None, 0.5])
def test_intervals_of_validation(interval: Any) -> None:
    with pytest.raises(ConfigError, match=r'val_interval=.*: expected a whole number of epochs'):
        check_schedules(Config(dict(train_cfg=dict(max_epochs=6, val_interval=interval))))
