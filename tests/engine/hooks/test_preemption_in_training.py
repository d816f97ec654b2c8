"""Trainings by mmengine's Runner with configs that are not ours, ended by PreemptionHook."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from line_training import Line, Numbers, line_runner
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import BaseLoop, Runner

from mmkdlayer.engine.hooks import PreemptionHook
from mmkdlayer.engine.signals import WATCH
from mmkdlayer.errors import CheckpointError


class Ask(Hook):
    """Asks for the end in an iteration (from 0), as a signal would; notes validations."""

    def __init__(self, iteration: int, number: signal.Signals = signal.SIGUSR1) -> None:
        self.iteration = iteration
        self.number = number
        self.validated: list[int] = []

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        if runner.iter == self.iteration:
            WATCH.received = self.number

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        self.validated.append(runner.iter)


def train(
    work: Path,
    ask: int,
    hook: bool = True,
    number: signal.Signals = signal.SIGUSR1,
    **changes: Any,
) -> tuple[Runner, Ask]:
    asking = Ask(ask, number)
    runner = line_runner(
        work, custom_hooks=[asking, *([PreemptionHook()] if hook else [])], **changes
    )
    try:
        runner.train()
    except SystemExit as end:
        assert end.code == (130 if number == signal.SIGINT else 75)
    else:
        assert ask < 0
    finally:
        WATCH.stop()
        WATCH.deferring, WATCH.received = False, None
    return runner, asking


def test_a_config_without_a_seed_is_resumed_in_the_same_order(tmp_path: Path) -> None:
    before, _ = train(tmp_path, ask=2)
    assert len(before.model.seen) == 3
    after, _ = train(tmp_path, ask=-1, resume=True)
    seen = [number for batch in before.model.seen + after.model.seen for number in batch]
    assert sorted(seen) == list(range(16))


def test_ctrl_c_saves_too(tmp_path: Path) -> None:
    train(tmp_path, ask=2, number=signal.SIGINT)
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'interrupted.pth')
    after, _ = train(tmp_path, ask=-1, resume=True)
    assert len(after.model.seen) == 5


def test_two_optimisers(tmp_path: Path) -> None:
    model = Line()
    wrappers = {
        name: OptimWrapper(torch.optim.SGD(part.parameters(), lr=0.0))
        for name, part in (('first', model.first), ('second', model.second))
    }
    runner, _ = train(tmp_path, ask=2, model=model, optim_wrapper=OptimWrapperDict(**wrappers))
    assert len(runner.model.seen) == 3
    assert (tmp_path / 'interrupted.pth').exists()


@pytest.mark.parametrize(('every', 'done', 'validated'), [(3, 4, [3]), (4, 3, []), (1, 3, [1, 2])])
def test_a_loop_by_iterations_validates_before_it_ends(
    every: int, done: int, validated: list[int], tmp_path: Path
) -> None:
    cfg = dict(by_epoch=False, max_iters=8, val_interval=every)
    runner, asking = train(tmp_path, ask=2, train_cfg=cfg, val=True)
    assert len(runner.model.seen) == done
    assert asking.validated == validated


def test_workers_of_a_loop_by_iterations_skip_no_image(tmp_path: Path) -> None:
    changes: dict[str, Any] = dict(
        loader=dict(num_workers=1, sampler=dict(type='InfiniteSampler', shuffle=False)),
        train_cfg=dict(by_epoch=False, max_iters=3),
    )
    for hook in (False, True):
        runner, _ = train(tmp_path / str(hook), ask=-1, hook=hook, **changes)
        assert runner.model.seen == [[0, 1], [2, 3], [4, 5]]


class OwnLoop(BaseLoop):
    """Has batches, but no DataLoader."""

    iter = epoch = 0
    max_iters = max_epochs = 1

    def __init__(self, runner: Runner, **settings: Any) -> None:
        self._runner = runner
        self.dataloader = SimpleNamespace(dataset=Numbers())  # type: ignore[assignment]

    def run(self) -> None:
        self.runner.call_hook('before_train')
        self.runner.model.train_step([torch.zeros(1)], self.runner.optim_wrapper)
        self.runner.call_hook('after_train')


def test_a_loop_of_another_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runner, 'build_train_loop', lambda runner, _: OwnLoop(runner))
    runner, _ = train(tmp_path, ask=-1)
    assert runner.model.seen == [[0]]


def optimizer_of(
    kind: type = torch.optim.SGD, split: bool = False, lr: float = 0.1, **options: Any
) -> dict:
    """A model and its optimiser, of one group or of two."""
    model = Line()
    parameters: Any = list(model.parameters())
    groups = [dict(params=parameters[:1]), dict(params=parameters[1:])]
    optimizer = kind(groups if split else parameters, lr=lr, **options)
    return dict(model=model, optim_wrapper=OptimWrapper(optimizer))


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        (dict(kind=torch.optim.AdamW), 'has the state of another optimiser'),
        (dict(split=True), 'different number of parameter groups'),
    ],
)
def test_the_state_of_another_optimiser_is_refused(
    changes: dict, text: str, tmp_path: Path
) -> None:
    train(tmp_path, ask=2, **optimizer_of(momentum=0.9))
    with pytest.raises(CheckpointError, match=text):
        train(tmp_path, ask=-1, resume=True, **optimizer_of(**changes))
    after, _ = train(tmp_path, ask=-1, resume=True, **optimizer_of())
    assert len(after.model.seen) == 5


def cosine(length: int) -> list:
    return [dict(type='CosineAnnealingLR', T_max=length)]


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(), ''),
        (dict(momentum=0.8), r'optimizer\.momentum=0\.8 \(in the checkpoint 0\.9\)\. To use'),
        (dict(lr=0.2), r'optimizer\.lr=0\.2 \(in the checkpoint 0\.1\)'),
        (dict(schedule=cosine(3)), r'param_scheduler\.0\.T_max=3 \(in the checkpoint 2\)'),
        (dict(schedule=None), r'param_scheduler\.0\.T_max=None \(in the checkpoint 2\)'),
    ],
)
def test_settings_that_a_checkpoint_overrules_are_named(
    changes: dict, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    schedule = changes.pop('schedule', cosine(2))
    train(tmp_path, ask=2, param_scheduler=cosine(2), **optimizer_of(momentum=0.9))
    monkeypatch.setattr(MMLogger, 'warning', lambda self, text: said.append(text))
    options = dict(dict(momentum=0.9), **changes)
    train(tmp_path, ask=-1, resume=True, param_scheduler=schedule, **optimizer_of(**options))
    found = [text for text in said if 'of the config is not used' in text]
    assert len(found) == bool(words)
    assert not words or re.search(words, found[0])


@pytest.mark.parametrize(('epochs', 'said'), [(1, True), (2, False)])
def test_a_training_that_is_finished(
    epochs: int, said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its epochs: with a larger batch, those that are left end at an iteration that has been."""
    warnings: list[str] = []
    loop = dict(type='mmkdlayer.ResumableEpochLoop', max_epochs=1)
    hooks = dict(default_hooks=dict(logger=None))
    train(tmp_path, ask=-1, loader=dict(batch_size=1), train_cfg=loop, **hooks)
    monkeypatch.setattr(MMLogger, 'warning', lambda self, text: warnings.append(text))
    runner, _ = train(
        tmp_path, ask=-1, resume=True, train_cfg=dict(loop, max_epochs=epochs), **hooks
    )
    assert any('Nothing is left to train' in text for text in warnings) == said
    assert runner.epoch == epochs


def test_the_state_of_another_number_of_optimisers_is_refused(tmp_path: Path) -> None:
    train(tmp_path, ask=2)
    model = Line()
    wrappers = {
        name: OptimWrapper(torch.optim.SGD(part.parameters(), lr=0.0))
        for name, part in (('first', model.first), ('second', model.second))
    }
    two = dict(model=model, optim_wrapper=OptimWrapperDict(**wrappers))
    with pytest.raises(CheckpointError, match="another optimiser .*KeyError: 'first'"):
        train(tmp_path, ask=-1, resume=True, **two)
