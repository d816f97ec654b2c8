"""Where training is resumed."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from mmengine.runner import EpochBasedTrainLoop

from mmkdlayer.engine.hooks import PreemptionHook
from mmkdlayer.engine.loops import ResumableEpochLoop
from mmkdlayer.errors import CheckpointError, ConfigError


def make_runner(loop_type: type = ResumableEpochLoop, batches: int = 5) -> Any:
    loop = loop_type.__new__(loop_type)
    loop._dataloader = loop.dataloader = range(batches)
    return SimpleNamespace(train_loop=loop, _resume=True, logger=logging.getLogger('test'))


def make_checkpoint(interrupted: Any = None, **changes: Any) -> dict:
    hub: dict = dict(log_scalars={}, runtime_info={}, resumed_keys={})
    meta = dict(epoch=1, iter=8, interrupted=interrupted)
    return dict(dict(state_dict={}, message_hub=hub, meta=meta), **changes)


CHECKPOINT = make_checkpoint(dict(done=3, batches=5))


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


@pytest.mark.parametrize(
    'place',
    [
        'epoch 2',
        dict(done=-3, batches=5),
        dict(done=10**9, batches=5),
        dict(done=5, batches=5),
        dict(done=2.5, batches=5),
        dict(batches=5),
    ],
)
def test_epoch_is_repeated_where_the_place_is_none(
    place: Any, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make_runner()
    PreemptionHook().after_load_checkpoint(runner, make_checkpoint(place))
    assert runner.train_loop.batches_done == 0
    assert 'does not say after which of its iterations' in caplog.text
    assert 'epoch 2 is repeated' in caplog.text


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        (dict(message_hub=None), 'holds no message_hub'),
        (dict(message_hub=dict(log_scalars={})), 'holds no message_hub'),
        (dict(meta='epoch 3'), 'holds no meta'),
        (dict(meta=dict(epoch='3', iter=8)), r"meta\['epoch'\]='3'"),
        (dict(meta=dict(epoch=3, iter=-1)), r"meta\['iter'\]=-1"),
        (dict(meta=dict(epoch=3)), r"meta\['iter'\]=None"),
        (dict(state_dict=[1]), 'holds no state_dict'),
        (dict(optimizer='SGD'), 'an optimizer that is no state'),
        (dict(param_schedulers=5), 'param_schedulers that are no states'),
        (dict(param_schedulers=['a']), 'param_schedulers that are no states'),
    ],
)
def test_what_is_no_state_of_a_training_is_refused(changes: dict, text: str) -> None:
    checkpoint = make_checkpoint(**changes)
    with pytest.raises(CheckpointError, match=f'{text}.*load_from=FILE'):
        PreemptionHook().after_load_checkpoint(make_runner(), checkpoint)
    runner = make_runner()
    runner._resume = False  # load_from: the weights alone
    PreemptionHook().after_load_checkpoint(runner, checkpoint)


def test_other_checkpoints_begin_an_epoch() -> None:
    runner = make_runner()
    PreemptionHook().after_load_checkpoint(runner, make_checkpoint())
    assert runner.train_loop.batches_done == 0
    runner._resume = False  # load_from: the weights alone
    PreemptionHook().after_load_checkpoint(runner, CHECKPOINT)
    assert runner.train_loop.batches_done == 0


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
