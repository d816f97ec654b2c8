"""Warm-up, decay and end of distillation losses; what is logged; resuming; stopping."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from seeded_training import make_config

from mmkdlayer.checkpoints import read_checkpoint
from mmkdlayer.errors import ConfigError

KEYS = ('distill.loss_penult', 'distill.loss_penult_raw', 'distill.loss_penult_factor')


@pytest.mark.parametrize(
    'wrong',
    [
        [],
        [(-1, 1)],
        [(5, 1), (3, 0)],
        [(3, 1), (3, 0)],
        [(0, -0.5)],
        [(0, float('nan'))],
        [(0, 1, 2)],
        [0, 1],
        'text',
        dict(warmup=5),  # the form of before
    ],
)
def test_schedule_that_is_none(wrong: Any) -> None:
    with pytest.raises(
        ConfigError, match=r'loss "loss_a": expected points.*\[\(0, 0.1\), \(5, 1\)\]'
    ):
        HOOKS.build(dict(type='mmkdlayer.DistillLossScheduleHook', losses=dict(loss_a=wrong)))


@HOOKS.register_module()
class KeepLog(Hook):
    """Keeps what each step logs."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.logs: list[dict] = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self.logs.append({key: torch.as_tensor(value).item() for key, value in outputs.items()})


@pytest.fixture
def train(distillation_config: Callable[..., dict], tmp_path: Path) -> Callable[..., list[dict]]:
    count = 0

    def call(losses: dict, name: str = 'work', more: tuple = (), **changes: Any) -> list[dict]:
        nonlocal count
        count += 1
        hook = dict(
            type='mmkdlayer.DistillLossScheduleHook',
            losses=losses,
            **{key: changes.pop(key) for key in ('by_epoch', 'distiller') if key in changes},
        )
        cfg = make_config(distillation_config(), tmp_path / name, **changes)
        cfg.experiment_name = f'{tmp_path.name}-schedule-{count}'
        cfg.custom_hooks = [*cfg.custom_hooks, hook, dict(type='KeepLog'), *more]
        runner = Runner.from_cfg(cfg)
        runner.train()
        for key in runner.message_hub.log_scalars:
            assert key.startswith(('train/', 'val/'))
        return next(hook for hook in runner.hooks if isinstance(hook, KeepLog)).logs

    return call


def factors(logs: list[dict]) -> list[float]:
    for log in logs:
        weighted, raw, factor = (log[key] for key in KEYS)
        assert raw > 0
        assert weighted == pytest.approx(raw * factor)
        counted = ('student.loss', 'distill.loss_penult', 'distill.loss_inter')
        assert log['loss'] == pytest.approx(sum(log[key] for key in counted), rel=1e-5)
    return [log[KEYS[2]] for log in logs]


THREE = dict(by_epoch=True, max_epochs=3)


def test_by_epoch(train: Callable[..., list[dict]]) -> None:
    logs = train(dict(loss_penult=[(0, 0.5), (1, 1), (2, 0)]), train_cfg=THREE)
    assert factors(logs) == [0.5] * 3 + [1.0] * 3 + [0.0] * 3  # 12 images in batches of 4


def test_by_iteration(train: Callable[..., list[dict]]) -> None:
    schedule = dict(loss_penult=[(0, 0), (2, 1), (3, 1), (5, 0.5)])
    logs = train(schedule, by_epoch=False, train_cfg=dict(by_epoch=True, max_epochs=2))
    assert factors(logs) == pytest.approx([0, 0.5, 1, 1, 0.75, 0.5])


def test_factor_is_in_the_gradient(train: Callable[..., list[dict]], tmp_path: Path) -> None:
    """Without its losses and its steps, a KD layer whose alpha is 0 would learn nothing."""
    train(dict(loss_inter=[(0, 0)], loss_penult=[(0, 0)]), 'off')
    train(dict(loss_inter=[(0, 1)], loss_penult=[(0, 1)]), 'on')
    train({}, 'without')
    states = {
        name: read_checkpoint(tmp_path / name / 'epoch_1.pth')['state_dict']
        for name in ('off', 'on', 'without')
    }
    key = 'architecture.kd_layers.inter.templates.weight'
    torch.testing.assert_close(states['on'][key], states['without'][key])
    assert not torch.allclose(states['off'][key], states['on'][key])


def test_resumed_training_continues_the_schedule(train: Callable[..., list[dict]]) -> None:
    schedule = dict(loss_penult=[(0, 0), (3, 1)])
    whole = factors(train(schedule, 'whole', train_cfg=THREE))
    first = factors(train(schedule, 'parts'))
    rest = factors(train(schedule, 'parts', train_cfg=THREE, resume=True))
    assert first + rest == whole == pytest.approx([0.0] * 3 + [1 / 3] * 3 + [2 / 3] * 3)


def test_together_with_the_hook_that_stops_distillation(
    train: Callable[..., list[dict]],
) -> None:
    stop = dict(type='mmrazor.StopDistillHook', stop_epoch=1)
    logs = train(dict(loss_penult=[(0, 0), (2, 1)]), more=(stop,), train_cfg=THREE)
    assert factors(logs[:3]) == [0.0] * 3
    assert all(set(log) & {*KEYS, 'distill.loss_inter'} == set() for log in logs[3:])


def test_unknown_loss(train: Callable[..., list[dict]]) -> None:
    with pytest.raises(ConfigError, match='no loss "loss_penul".*Near matches: loss_penult'):
        train(dict(loss_penul=[(0, 1)]))
    with pytest.raises(ConfigError, match='generator_distiller has no loss.*It has none'):
        train(dict(loss_penult=[(0, 1)]), distiller='generator_distiller')


def test_epochs_are_not_counted_by_an_iteration_based_loop(
    train: Callable[..., list[dict]],
) -> None:
    by_iteration = dict(by_epoch=False, max_iters=4, val_interval=4)
    with pytest.raises(ConfigError, match='by_epoch=False'):
        train(dict(loss_penult=[(0, 0), (2, 1)]), train_cfg=by_iteration)
    logs = train(dict(loss_penult=[(0, 0), (2, 1)]), 'it', by_epoch=False, train_cfg=by_iteration)
    assert factors(logs) == [0, 0.5, 1, 1]
