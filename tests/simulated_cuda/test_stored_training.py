"""A training on stored decisions by mmengine's Runner on a simulated device, from other weights."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import build_distillation
from line_training import QuickRunner
from mmengine.runner import Runner
from stored_training import drawn_config, store_of, with_logit_kd

from mmkdlayer.stored import use_store
from simulated_cuda.device import SimulatedCuda
from simulated_cuda.training import Listener

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')

#: Fields of the store: rows of two layers, probabilities of one; rows, values and rest of the logits.
STEPS, MEASURED, FIELDS = 6, 3, 6
WEIGHT = 'backbone.conv1.weight'


class Beginning(Listener):
    """Keeps a weight with which the training begins, too."""

    def before_train(self, runner: Runner) -> None:
        self.weight = runner.model.student.state_dict()[WEIGHT].cpu().clone()


def train(work: Path, store: Path, weights: Path, cuda: SimulatedCuda | None) -> Beginning:
    cfg = with_logit_kd(drawn_config(work, **{'train_cfg.max_epochs': 2}))
    cfg.custom_hooks = [
        *(hook for hook in cfg.custom_hooks if hook['type'] != 'Recorder'),
        dict(type='mmkdlayer.InitFromHook', checkpoint=str(weights)),
        dict(type='mmkdlayer.KDMetricsHook', interval=MEASURED),
    ]
    use_store(cfg, str(store))
    cfg.experiment_name = str(work).replace('/', '_')
    runner, listener = QuickRunner.from_cfg(cfg), Beginning(cuda)
    runner.register_hook(listener)
    runner.train()
    return listener


@pytest.fixture(scope='module')
def trainings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two epochs of three steps on the CPU and on the device, and the weights they begin with."""
    if torch.cuda.is_available():
        pytest.skip('there is a GPU: it is not simulated')
    folder = tmp_path_factory.mktemp('stored')
    store = store_of(folder / 'store', drawn_config(folder), logits=2)
    state = {f'architecture.{k}': v for k, v in build_distillation().student.state_dict().items()}
    torch.save(dict(state_dict=state, meta={}), folder / 'weights.pth')
    found: dict[str, Any] = dict(weight=state[f'architecture.{WEIGHT}'])
    for name, cuda in (('cpu', None), ('cuda', SimulatedCuda())):
        with cuda or nullcontext(), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            found[name] = train(folder / name, store, folder / 'weights.pth', cuda)
    return found


def test_a_step_that_is_not_measured_is_free(trainings: dict) -> None:
    events = trainings['cuda'].events
    assert len(events) == STEPS
    assert not [event for step in events for event in step if event.kind == 'mix']
    for number, step in enumerate(events, 1):
        assert number == 1 or number % MEASURED == 0 or [e for e in step if e.where] == []


def test_what_is_stored_is_copied_before_the_step_and_not_waited_for(trainings: dict) -> None:
    for step in trainings['cuda'].between:
        copies = [event.what for event in step if event.where.startswith('models/labels.py')]
        assert copies == FIELDS * ['cpu to cuda:0, not waited for']


def test_numbers_are_those_of_the_cpu(trainings: dict) -> None:
    found, expected = trainings['cuda'].losses, trainings['cpu'].losses
    assert len(found) == len(expected) == STEPS
    assert {f'distill.loss_{name}' for name in ('inter', 'penult', 'kl')} <= expected[0].keys()
    for ours, theirs in zip(found, expected):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize('name', ['cpu', 'cuda'])
def test_it_begins_with_the_weights_of_the_file(name: str, trainings: dict) -> None:
    assert torch.equal(trainings[name].weight, trainings['weight'])
