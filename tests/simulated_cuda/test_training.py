"""A whole training by mmengine's Runner on a simulated device: fitting, hooks, checkpoints, export."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_distillation
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from seeded_training import make_config

from mmkdlayer import load_student
from mmkdlayer.checkpoints import read_checkpoint
from mmkdlayer.deploy import ExportOptions, export_student
from mmkdlayer.models.connectors import memory_efficient
from simulated_cuda.device import SimulatedCuda
from simulated_cuda.training import Listener

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')

REPORT = dict(type='mmkdlayer.ReportHook', images=6, figures=2, probe_images=6)
STEPS, MEASURED = 4, 2  # an epoch has so many; of every second one the metrics are taken


def train(work: Path, cuda: SimulatedCuda | None = None, **changes: Any) -> tuple[Runner, Listener]:
    hooks = [
        dict(type='mmkdlayer.CheckDataHook'),
        dict(type='mmkdlayer.CheckWeightsHook'),
        dict(type='mmkdlayer.FitDecisionsHook', streaming_passes=1),
        dict(type='mmkdlayer.ReleaseRecordsHook'),
        dict(type='mmkdlayer.KDMetricsHook', interval=MEASURED, details=True),
        dict(type='mmkdlayer.CheckFiniteHook', interval=MEASURED),
        dict(
            type='mmkdlayer.DistillLossScheduleHook',
            by_epoch=False,
            losses=dict(loss_inter=[(0, 0.5), (6, 1)]),
        ),
        dict(type='mmkdlayer.PreemptionHook'),
        dict(type='EMAHook', momentum=0.1),
        *changes.pop('hooks', ()),
    ]
    options = dict(
        custom_hooks=hooks,
        train_cfg=dict(type='mmkdlayer.ResumableEpochLoop', max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.02, momentum=0.9)),
    )
    model = changes.pop('model', None) or tiny_distillation()
    cfg = make_config(model, work, **{**options, **changes})
    cfg.train_dataloader.batch_size = 3
    cfg.experiment_name = f'{work.parent.name}-{work.name}-{"cpu" if cuda is None else "cuda"}'
    runner = Runner.from_cfg(cfg)
    listener = Listener(cuda)
    runner.register_hook(listener)
    runner.train()
    return runner, listener


@pytest.fixture(scope='module')
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Two epochs on the CPU and on the device; one on the device, and the second resumed there."""
    if torch.cuda.is_available():
        pytest.skip('there is a GPU: it is not simulated')
    folder = tmp_path_factory.mktemp('trainings')
    found: dict[str, Any] = dict(folder=folder)
    scope = DefaultScope._instance_dict.copy()
    least, memory_efficient.MIN_SCORES = memory_efficient.MIN_SCORES, 0
    for name, cuda in (('cpu', None), ('cuda', SimulatedCuda())):
        with cuda or nullcontext(), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            found[name] = train(folder / name, cuda, hooks=[] if cuda is None else [REPORT])
            if cuda is not None:
                found['mixes after the steps'] = cuda.found('mix')
                one = dict(type='mmkdlayer.ResumableEpochLoop', max_epochs=1)
                train(folder / 'parts', cuda, train_cfg=one)
                found['resumed'] = train(folder / 'parts', cuda, resume=True)
    yield found
    memory_efficient.MIN_SCORES = least
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(scope)


def last(trainings: dict[str, Any], name: str) -> dict[str, Any]:
    return read_checkpoint(trainings['folder'] / name / 'epoch_2.pth')


def test_nothing_is_mixed_and_a_step_that_is_not_measured_is_free(trainings: dict) -> None:
    for name in ('cuda', 'resumed'):
        events = trainings[name][1].events
        assert len(events) == (2 * STEPS if name == 'cuda' else STEPS)
        assert not [e for step in events for e in step if e.kind == 'mix']
        free = [step for number, step in enumerate(events, 1) if number % MEASURED and number > 1]
        assert free
        assert [event for step in free for event in step if event.where] == []
    # Those that are measured do wait: the metrics are read.
    assert [event for event in events[MEASURED - 1] if 'kd_metrics' in event.where]


def test_losses_are_those_of_the_cpu(trainings: dict) -> None:
    expected = trainings['cpu'][1].losses
    assert 'distill.loss_inter_factor' in expected[0]
    for found, losses in ((trainings['cuda'][1].losses, expected),
                          (trainings['resumed'][1].losses, expected[STEPS:])):  # fmt: skip
        assert len(found) == len(losses)
        for ours, theirs in zip(found, losses):
            assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)


def test_metrics_and_decisions_are_those_of_the_cpu(trainings: dict) -> None:
    histories = [
        {
            key: buffer.data[0]
            for key, buffer in trainings[name][0].message_hub.log_scalars.items()
            if key.startswith('train/kd/')
        }
        for name in ('cuda', 'cpu')
    ]
    assert len(histories[1]) == 12
    assert histories[0].keys() == histories[1].keys()
    for key, values in histories[1].items():
        assert histories[0][key] == pytest.approx(values, rel=1e-3, abs=1e-4), key
    for loss, decision in trainings['cpu'][0].model.distiller.distill_losses.items():
        found = trainings['cuda'][0].model.distiller.distill_losses[loss].decision
        for table, value in decision.decision._tables.items():
            torch.testing.assert_close(found._tables[table], value, rtol=1e-5, atol=1e-5)


def test_a_report_is_written_on_the_device(trainings: dict) -> None:
    """In a training whose numbers are those of one without a report."""
    assert (trainings['folder'] / 'cuda' / 'report' / 'index.html').exists()
    assert trainings['mixes after the steps'] == []
    (log,) = (trainings['folder'] / 'cuda').rglob('*.log')
    assert 'ReportHook: ' not in log.read_text()  # how it says what went wrong


@pytest.mark.parametrize('name', ['cuda', 'resumed'])
def test_checkpoints_are_those_of_the_cpu(name: str, trainings: dict) -> None:
    folder = dict(cuda='cuda', resumed='parts')[name]
    expected, found = last(trainings, 'cpu'), last(trainings, folder)
    for part in ('state_dict', 'ema_state_dict'):
        assert found[part].keys() == expected[part].keys()
        for key, value in expected[part].items():
            torch.testing.assert_close(found[part][key], value, rtol=1e-3, atol=1e-4, msg=key)
    states = found['optimizer']['state']
    assert states.keys() == expected['optimizer']['state'].keys()


def test_export_of_a_checkpoint_of_the_device(trainings: dict, tmp_path: Path) -> None:
    cfg = Config(dict(trainings['cuda'][0].cfg._cfg_dict))
    images = torch.randn(2, 3, 16, 16)
    with SimulatedCuda() as cuda:
        path = trainings['folder'] / 'cuda' / 'epoch_2.pth'
        export_student(cfg, path, tmp_path / 'out', ExportOptions(fold=True))
        student = load_student(tmp_path / 'out')
        logits = student.to('cuda')(images.to('cuda')).cpu()
        assert cuda.found('mix') == []
    torch.testing.assert_close(logits, load_student(tmp_path / 'out')(images))
