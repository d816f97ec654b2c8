"""Where training is resumed, and when the checkpoint of an interruption goes."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mmengine.runner import EpochBasedTrainLoop

from mmkdlayer.engine.hooks import PreemptionHook
from mmkdlayer.engine.loops import ResumableEpochLoop
from mmkdlayer.errors import ConfigError


def make_runner(loop_type: type = ResumableEpochLoop, batches: int = 5) -> Any:
    loop = loop_type.__new__(loop_type)
    loop._dataloader = loop.dataloader = range(batches)
    return SimpleNamespace(train_loop=loop, _resume=True, logger=logging.getLogger('test'))


CHECKPOINT = dict(meta=dict(epoch=1, iter=8, interrupted=dict(done=3, batches=5)))


def test_place_in_the_epoch_is_found() -> None:
    runner = make_runner()
    PreemptionHook().after_load_checkpoint(runner, CHECKPOINT)
    assert runner.train_loop.batches_done == 3


@pytest.mark.parametrize(
    ('runner', 'reason'),
    [
        (make_runner(batches=4), 'has 4 iterations now: epoch 2 is repeated'),
        (make_runner(EpochBasedTrainLoop), 'not a ResumableEpochLoop: epoch 2 is repeated'),
    ],
)
def test_epoch_is_repeated_where_its_rest_is_not_known(
    runner: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    PreemptionHook().after_load_checkpoint(runner, CHECKPOINT)
    assert getattr(runner.train_loop, 'batches_done', 0) == 0
    assert reason in caplog.text


def test_other_checkpoints_begin_an_epoch() -> None:
    runner = make_runner()
    PreemptionHook().after_load_checkpoint(runner, dict(meta=dict(epoch=1, iter=5)))
    assert runner.train_loop.batches_done == 0
    runner._resume = False  # load_from: the weights alone
    PreemptionHook().after_load_checkpoint(runner, CHECKPOINT)
    assert runner.train_loop.batches_done == 0


@pytest.mark.parametrize(('last', 'stays'), [('interrupted.pth', True), ('epoch_2.pth', False)])
def test_a_later_checkpoint_replaces_that_of_the_interruption(
    last: str, stays: bool, tmp_path: Path
) -> None:
    (tmp_path / 'interrupted.pth').touch()
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / last))
    runner: Any = SimpleNamespace(work_dir=str(tmp_path))
    PreemptionHook().after_train_epoch(runner)
    assert (tmp_path / 'interrupted.pth').exists() == stays


def test_unknown_signals_are_refused() -> None:
    with pytest.raises(KeyError, match='SIGNONE'):
        PreemptionHook(signals=('SIGNONE',))
    assert PreemptionHook(signals=()).numbers == []


def test_ranks_that_resume_from_different_checkpoints_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = 'mmkdlayer.engine.hooks.preemption_hook.all_gather_object'
    monkeypatch.setattr(module, lambda place: [place, (0, 0)])
    runner: Any = SimpleNamespace(epoch=2, iter=10, work_dir='local')
    with pytest.raises(ConfigError, match=r'\(2, 10\), \(0, 0\).*work dir \(local\)'):
        PreemptionHook().before_train(runner)
