"""Records of a step are gone after it, also where the distillation was stopped."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Callable

import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from seeded_training import make_config

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')


def held(model: Any) -> int:
    managers = (model.distiller.student_recorders, model.distiller.teacher_recorders)
    return sum(len(r.data_buffer) for manager in managers for r in manager.recorders.values())


@HOOKS.register_module()
class CountRecords(Hook):
    """Counts what is recorded after each step, as a hook that copies the model would find it."""

    priority = 'NORMAL'

    def __init__(self) -> None:
        self.counts: list[int] = []

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        self.counts.append(held(runner.model))
        copy.deepcopy(runner.model)


@pytest.mark.parametrize('stop_epoch', [0, 1, 9])
def test_nothing_is_held_after_a_step(
    distillation_config: Callable[..., dict], tmp_path: Path, stop_epoch: int
) -> None:
    cfg = make_config(distillation_config(), tmp_path)
    cfg.train_cfg.max_epochs = 2
    cfg.custom_hooks = [
        dict(type='mmkdlayer.FitDecisionsHook'),
        dict(type='mmkdlayer.ReleaseRecordsHook'),
        dict(type='mmrazor.StopDistillHook', stop_epoch=stop_epoch),
        dict(type='CountRecords'),
    ]
    cfg.experiment_name = f'{tmp_path.name}-{stop_epoch}'
    runner = Runner.from_cfg(cfg)
    runner.train()
    counts = next(hook for hook in runner.hooks if isinstance(hook, CountRecords)).counts
    assert counts == [0] * 6
