"""A loss that is NaN ends the training and leaves what was saved."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from line_training import Line, line_runner
from mmengine.optim import OptimWrapper
from torch import Tensor

from mmkdlayer.checkpoints import check_values, read_checkpoint
from mmkdlayer.engine.hooks import CheckFiniteHook, PreemptionHook
from mmkdlayer.engine.hooks.check_finite_hook import bad_losses
from mmkdlayer.engine.signals import WATCH
from mmkdlayer.errors import TrainingError


class Breaking(Line):
    """Its second loss is NaN from an iteration (from 0) on, or in this one alone; so are its weights."""

    spoil = True

    def __init__(self, start: int, once: bool = False, update: bool = True) -> None:
        super().__init__()
        self.start, self.once, self.update = start, once, update

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        super().train_step(data, optim_wrapper)
        done = len(self.seen) - 1
        broken = done == self.start if self.once else done >= self.start
        value = math.nan if broken else 1.0
        if broken and self.update and self.spoil:
            self.first.weight.data.fill_(math.nan)
        second = torch.tensor(value if self.update else 1.0)
        return {
            'student.loss': torch.tensor(1.0),
            'distill.loss_penult': second,
            'loss': 1 + second,
            'grad_norm': torch.tensor(value),
        }


def run(work: Path, model: Line, **changes: Any) -> None:
    runner = line_runner(
        work,
        model=model,
        optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0)),
        train_cfg=dict(type='mmkdlayer.ResumableEpochLoop', max_epochs=3),
        custom_hooks=[CheckFiniteHook(interval=3), PreemptionHook(signals=())],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1), logger=None),
        **changes,
    )
    try:
        runner.train()
    finally:
        WATCH.deferring = False


@pytest.mark.parametrize(('start', 'iteration', 'epoch'), [(9, 12, 2), (15, 16, 2), (2, 3, 1)])
def test_training_stops_with_the_name_of_the_loss(
    start: int, iteration: int, epoch: int, tmp_path: Path
) -> None:
    model = Breaking(start)
    with pytest.raises(TrainingError) as caught:
        run(tmp_path, model)
    text = f'distill.loss_penult is nan after iteration {iteration}, in epoch {epoch}'
    assert str(caught.value).startswith(text)
    assert str(tmp_path) in str(caught.value) and 'lr' in str(caught.value)
    assert len(model.seen) == iteration
    saved = sorted(path.name for path in tmp_path.glob('*.pth'))
    assert saved == ['epoch_1.pth'][: epoch - 1]
    for name in saved:
        check_values(read_checkpoint(tmp_path / name)['state_dict'], name)


def test_a_step_that_is_skipped_is_no_reason(tmp_path: Path) -> None:
    model = Breaking(3, once=True, update=False)
    run(tmp_path, model)
    assert len(model.seen) == 24


def test_loss_scaling_skips_a_step_but_not_two_in_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OptimWrapper, 'loss_scaler', None, raising=False)
    model = Breaking(5, once=True)
    model.spoil = False
    run(tmp_path / 'once', model)
    assert len(model.seen) == 24
    model = Breaking(5)
    model.spoil = False
    with pytest.raises(TrainingError, match='loss_penult is nan after iteration 8, in epoch 1'):
        run(tmp_path / 'often', model)


def test_weights_that_are_nan_are_not_saved(tmp_path: Path) -> None:
    class Spoiled(Line):
        def train_step(self, data: Any, optim_wrapper: Any) -> dict:
            outputs = super().train_step(data, optim_wrapper)
            if len(self.seen) == 16:  # by the last step of an epoch, whose loss was right
                self.first.weight.data.fill_(math.nan)
            return outputs

    with pytest.raises(
        TrainingError, match=r'after iteration 16: .*first\.weight holds NaN.* not saved'
    ):
        run(tmp_path, Spoiled())
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['epoch_1.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_1.pth')


def test_other_ranks_stop_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = 'mmkdlayer.engine.hooks.check_finite_hook.all_gather_object'
    monkeypatch.setattr(module, lambda own: [own, ['loss is nan']])
    with pytest.raises(TrainingError, match='^loss is nan of process 1 after iteration 3'):
        run(tmp_path, Line())


def test_only_losses_are_looked_at() -> None:
    nan, inf = torch.tensor(math.nan), math.inf
    assert bad_losses({'loss': nan, 'grad_norm': nan, 'lr': nan}) == ['loss is nan']
    assert bad_losses({'loss': inf, 'student.loss': 1.0, 'distill.loss_a': inf}) == [
        'distill.loss_a is inf'
    ]
    assert bad_losses({'loss': torch.tensor([1.0, 2.0])}) == []
