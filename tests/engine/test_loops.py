"""Trainings that were killed between a checkpoint and the validation that follows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from line_training import line_runner
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmkdlayer.checkpoints import read_checkpoint
from mmkdlayer.engine.hooks import PreemptionHook
from mmkdlayer.engine.loops import VALIDATED
from mmkdlayer.engine.signals import WATCH

#: Of each place that is validated; the second is the best.
SCORES = {1: 1.0, 2: 3.0, 3: 2.0, 4: 1.0}


class Killed(BaseException):
    """In the place of a signal that no process survives."""


class Places(Hook):
    """Notes where it is validated, and kills the training in a validation or after an iteration."""

    priority = 'VERY_HIGH'

    def __init__(self, kill_in_validation: int = 0, kill_after: int = 0) -> None:
        self.kills = (kill_in_validation, kill_after)
        self.validated: list[int] = []

    @staticmethod
    def place(runner: Any) -> int:
        return runner.epoch if 'Epoch' in type(runner.train_loop).__name__ else runner.iter

    def before_val(self, runner: Any) -> None:
        if self.place(runner) == self.kills[0]:
            raise Killed
        self.validated.append(self.place(runner))

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        if runner.iter + 1 == self.kills[1]:
            raise Killed


class Score(BaseMetric):
    """As planned for the place where it is validated."""

    def __init__(self, places: Places) -> None:
        super().__init__()
        self.places = places

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict:
        return dict(acc=SCORES[self.places.validated[-1]])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr('mmengine.runner.runner.get_git_hash', str)  # starts a program
    yield
    WATCH.stop()
    WATCH.deferring = False


@LOOPS.register_module()
class OwnEpochLoop(EpochBasedTrainLoop):
    """Somebody's own."""

    def run(self) -> Any:
        return super().run()


def train(
    work: Path,
    places: Places,
    by_epoch: bool = True,
    resume: bool = False,
    best: str | None = 'acc',
    hook: dict | None = None,
    loop: str | None = None,
    batch: int = 8,
    plateau: bool = False,
    signals: tuple[str, ...] = (),
    **cfg: Any,
) -> Runner:
    """Four epochs of two iterations, or four iterations, with a checkpoint after each."""
    kind = loop or ('mmkdlayer.ResumableEpochLoop' if by_epoch else 'IterBasedTrainLoop')
    length = dict(max_epochs=4) if by_epoch else dict(max_iters=4)
    hook = hook or dict(type='CheckpointHook', interval=1, by_epoch=by_epoch, save_best=best)
    schedule = dict(type='ReduceOnPlateauLR', monitor='acc', rule='greater', patience=9)
    runner = line_runner(
        work,
        val=True,
        loader=dict(batch_size=batch),
        train_cfg={**dict(type=kind, val_interval=1), **length, **cfg},
        val_evaluator=Evaluator([Score(places)]),
        param_scheduler=[schedule] if plateau else None,
        default_hooks=dict(checkpoint=hook, logger=None),
        custom_hooks=[places, PreemptionHook(signals=signals)],
        resume=resume,
        experiment_name=f'{work.name}_{id(places)}',  # a message hub of its own, as in a new process
    )
    if places.kills == (0, 0):
        runner.train()
    else:
        with pytest.raises(Killed):
            runner.train()
    return runner


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize('killed', [1, 2, 4])
def test_a_validation_that_a_kill_took_is_made_up_for(
    killed: int, by_epoch: bool, tmp_path: Path
) -> None:
    first, second = Places(killed), Places()
    train(tmp_path, first, by_epoch)
    train(tmp_path, second, by_epoch, resume=True)
    assert first.validated + second.validated == [1, 2, 3, 4]
    info = read_checkpoint((tmp_path / 'last_checkpoint').read_text())['message_hub'][
        'runtime_info'
    ]
    assert info['best_score'] == 3.0
    kind = 'epoch' if by_epoch else 'iter'
    assert [one.name for one in tmp_path.glob('best_*')] == [f'best_acc_{kind}_2.pth']


@pytest.mark.parametrize('by_epoch', [True, False])
def test_what_a_checkpoint_says_to_be_validated_is_not_again(
    by_epoch: bool, tmp_path: Path
) -> None:
    """It was saved once more, since it was the best."""
    steps = 2 if by_epoch else 1
    train(tmp_path, Places(kill_after=2 * steps + 1), by_epoch)
    again = Places()
    train(tmp_path, again, by_epoch, resume=True)
    assert again.validated == [3, 4]


@pytest.mark.parametrize(('killed', 'then', 'best'), [(2, 5, True), (3, 7, False)])
def test_the_best_that_is_made_up_for_is_in_the_checkpoint(
    killed: int, then: int, best: bool, tmp_path: Path
) -> None:
    """Another validation is not, so that it is repeated."""
    train(tmp_path, Places(killed))
    train(tmp_path, Places(kill_after=then), resume=True)
    checkpoint = read_checkpoint((tmp_path / 'last_checkpoint').read_text())
    info = checkpoint['message_hub']['runtime_info']
    assert (info['best_score'], checkpoint['meta']['epoch']) == (3.0, killed)
    again = Places()
    train(tmp_path, again, resume=True)
    assert again.validated == list(range(killed + best, 5))
    assert [one.name for one in tmp_path.glob('best_*')] == ['best_acc_epoch_2.pth']


def test_the_log_of_a_validation_has_its_metrics_alone(tmp_path: Path) -> None:
    runner = train(tmp_path, Places())
    assert runner.message_hub.runtime_info[VALIDATED] == [4, 8]
    assert runner.log_processor._collect_non_scalars(runner, 'val') == {}


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize(
    ('cfg', 'validated'),
    [
        (dict(val_interval=2), [2, 4]),
        (dict(val_interval=3), [3, 4]),
        (dict(val_begin=3), [3, 4]),
        (dict(dynamic_intervals=[(2, 3)]), [3, 4]),
    ],
    ids=str,
)
def test_only_what_is_due_is_validated(
    cfg: dict, validated: list[int], by_epoch: bool, tmp_path: Path
) -> None:
    options: dict[str, Any] = dict(by_epoch=by_epoch, best=None, **cfg)
    train(tmp_path, Places(kill_after=5 if by_epoch else 3), **options)
    again = Places()
    train(tmp_path, again, resume=True, **options)
    assert again.validated == validated


@pytest.mark.parametrize(('saved', 'validated'), [(True, [2, 3, 4]), (False, [1, 2, 3, 4])])
def test_an_epoch_is_validated_at_its_end_with_another_batch_size(
    saved: bool, validated: list[int], tmp_path: Path
) -> None:
    """Killed in the validation of epoch 1, or in epoch 2 with a checkpoint of its first iteration."""
    if saved:
        hooks: Any = dict(type='CheckpointHook', interval=1, by_epoch=False)
        train(tmp_path, Places(kill_after=4), hook=hooks, loop='EpochBasedTrainLoop')
    else:
        train(tmp_path, Places(1))
    again = Places()
    train(tmp_path, again, resume=True, batch=4)
    assert again.validated == validated


def test_a_schedule_follows_each_validation_once(tmp_path: Path) -> None:
    """Killed in a validation, after one that was not the best, and after the best one."""
    states = []
    for name, kills in dict(never=None, within=(3, 0), later=(0, 7), best=(0, 5)).items():
        work = tmp_path / name
        if kills:
            train(work, Places(*kills), plateau=True)
        train(work, Places(), resume=bool(kills), plateau=True)
        (state,) = read_checkpoint((work / 'last_checkpoint').read_text())['param_schedulers']
        states.append((state['num_bad_epochs'], state['last_step'], state['best']))
    assert set(states) == {states[0]}
    assert (states[0][0], states[0][2]) == (1, 3.0)


def test_a_loop_with_a_rule_of_its_own_is_left_alone(tmp_path: Path) -> None:
    train(tmp_path, Places(1), loop='OwnEpochLoop')
    again = Places()
    train(tmp_path, again, resume=True, loop='OwnEpochLoop')
    assert again.validated == [2, 3, 4]


def test_a_signal_ends_such_a_validation_at_once(tmp_path: Path) -> None:
    class Deferring(Places):
        def before_val(self, runner: Any) -> None:
            found.append(WATCH.deferring)
            super().before_val(runner)

    found: list[bool] = []
    train(tmp_path, Places(1))
    train(tmp_path, Deferring(), resume=True, signals=('SIGUSR1',))
    assert found == [False, True, True, True]
