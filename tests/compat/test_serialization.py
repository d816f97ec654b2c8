from __future__ import annotations

import functools
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mmkdlayer.compat.serialization import allow_mmengine_checkpoints, history_statistic

# Restrictive whatever this torch's default is.
load = functools.partial(torch.load, weights_only=True)

needs_allow_list = pytest.mark.skipif(
    not hasattr(torch.serialization, 'add_safe_globals'),
    reason='torch before 2.4 has no allow-list, and loads checkpoints without one',
)


class TwoBlobs(Dataset):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((4,), float(index)), index % 2


class TinyModel(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 2)

    def forward(self, inputs: list, labels: list, mode: str = 'tensor') -> object:
        scores = self.linear(torch.stack(list(inputs)))
        if mode == 'loss':
            loss = torch.nn.functional.cross_entropy(scores, torch.as_tensor(labels))
            return dict(loss=loss)
        return [scores]


class ConstantMetric(BaseMetric):
    def process(self, data_batch: object, data_samples: object) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict:
        return dict(accuracy=np.float64(0.5), hits=np.float32(0.25), count=np.int64(4))


def _train(work_dir: Path, epochs: int, resume: bool) -> Runner:
    loader = dict(batch_size=4, dataset=TwoBlobs(), sampler=dict(type='DefaultSampler'))
    runner = Runner(
        model=TinyModel(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        val_dataloader=loader,
        val_cfg=dict(),
        val_evaluator=[ConstantMetric()],
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.5, by_epoch=False, begin=0, end=2),
            dict(type='MultiStepLR', milestones=[1], by_epoch=True),
        ],
        custom_hooks=[dict(type='EMAHook')],
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', interval=1, save_best='accuracy'),
        ),
        default_scope='mmengine',
        resume=resume,
        experiment_name=f'{work_dir.name}_{epochs}',
    )
    runner.train()
    return runner


@needs_allow_list
def test_a_run_resumes_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    _train(tmp_path, epochs=1, resume=False)
    checkpoint = load(tmp_path / 'epoch_1.pth')
    assert set(checkpoint) >= {'message_hub', 'optimizer', 'param_schedulers', 'ema_state_dict'}
    history = checkpoint['message_hub']['log_scalars']['train/loss']
    assert type(history) is HistoryBuffer and len(history.data[0]) == 2
    assert checkpoint['message_hub']['runtime_info']['best_score'] == 0.5
    runner = _train(tmp_path, epochs=2, resume=True)
    assert runner.epoch == 2 and runner.iter == 4
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) == 4


@needs_allow_list
@pytest.mark.parametrize('module', ['numpy.core.multiarray', 'numpy._core.multiarray'])
def test_files_of_numpy_1_and_2_load(tmp_path: Path, module: str) -> None:
    history = HistoryBuffer([1.5, 2.5], [1, 1])
    content = dict(history=history, bools=np.array([True]), best=np.float32(0.25), n=np.int64(3))
    here, there = tmp_path / 'here.pth', tmp_path / 'there.pth'
    torch.save(content, here)
    with zipfile.ZipFile(here) as source, zipfile.ZipFile(there, 'w') as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith('data.pkl'):
                for old in (b'numpy.core.multiarray', b'numpy._core.multiarray'):
                    data = data.replace(b'c' + old + b'\n', b'c' + module.encode() + b'\n')
                assert module.encode() in data
            target.writestr(name, data)
    loaded = load(there)
    assert loaded['history'].data[0].tolist() == [1.5, 2.5]
    assert loaded['history'].mean() == 2.0
    assert loaded['bools'].tolist() == [True]
    assert loaded['best'] == np.float32(0.25) and loaded['n'] == 3


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function: object, *args: object) -> None:
        self.call = (function, args)

    def __reduce__(self) -> object:
        return self.call


@needs_allow_list
@pytest.mark.parametrize(
    'attack',
    [
        Call(os.getcwd),
        Call(eval, '1'),
        Call(getattr, HistoryBuffer, 'register_statistics'),
        Call(getattr, HistoryBuffer, '__init__'),
        Call(getattr, np.ndarray, 'tofile'),
        Call(np.load, 'x'),
    ],
)
def test_nothing_that_runs_code_is_allowed(tmp_path: Path, attack: Call) -> None:
    torch.save(dict(attack=attack), tmp_path / 'attack.pth')
    with pytest.raises(pickle.UnpicklingError):
        load(tmp_path / 'attack.pth')


def test_only_statistics_come_from_the_name_getattr() -> None:
    assert history_statistic(HistoryBuffer, 'mean') is HistoryBuffer.mean
    with pytest.raises(pickle.UnpicklingError, match='min, max, current, mean'):
        history_statistic(HistoryBuffer, 'update')
    with pytest.raises(pickle.UnpicklingError, match='could run code'):
        history_statistic(type('Fake', (HistoryBuffer,), {}), 'mean')


@needs_allow_list
def test_allowing_twice_adds_nothing() -> None:
    allow_mmengine_checkpoints()
    before = torch.serialization.get_safe_globals()
    allow_mmengine_checkpoints()
    assert len(torch.serialization.get_safe_globals()) == len(before)


def test_a_torch_without_an_allow_list_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.serialization, 'add_safe_globals', raising=False)
    allow_mmengine_checkpoints()
