from __future__ import annotations

import copy
import functools
import io
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

from mmkdlayer.checkpoints import read_checkpoint
from mmkdlayer.checkpoints.loading import load_restricted
from mmkdlayer.checkpoints.restricted_pickle import RestrictedUnpickler
from mmkdlayer.compat.serialization import (
    allow_mmengine_checkpoints,
    history_statistic,
    safe_globals,
)
from mmkdlayer.errors import CheckpointError

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
    with pytest.raises(pickle.UnpicklingError, match='min, max, current, mean of'):
        history_statistic(HistoryBuffer, 'update')
    with pytest.raises(pickle.UnpicklingError, match='could run code'):
        history_statistic(type('Fake', (HistoryBuffer,), {}), 'mean')


def read(path: Path) -> object:
    """With torch's reader where it has an allow-list, with ours before."""
    if hasattr(torch.serialization, 'safe_globals'):
        return load(path)
    with path.open('rb') as file:
        return load_restricted(file)


def forged(**state: object) -> HistoryBuffer:
    """A history that pickles with other attributes."""
    history = HistoryBuffer([1.0, 3.0], [1, 1], max_length=9)
    vars(history).update(state)
    return history


def test_methods_of_a_history_stay_those_of_this_process(tmp_path: Path) -> None:
    own = dict(HistoryBuffer._statistics_methods)
    methods = dict(mean=HistoryBuffer.max)
    torch.save(
        dict(history=forged(_statistics_methods=methods, mean=HistoryBuffer.max)),
        tmp_path / 'forged.pth',
    )
    history = read(tmp_path / 'forged.pth')['history']
    assert type(history) is HistoryBuffer and HistoryBuffer._statistics_methods == own
    assert own['mean'] is HistoryBuffer.mean and history.max_length == 9
    assert history.statistics('mean') == history.mean() == 2
    assert HistoryBuffer([1.0, 3.0], [1, 1]).statistics('mean') == 2


@pytest.mark.parametrize(
    'state',
    [
        dict(_log_history=[1.0, 3.0]),
        dict(_count_history=np.ones(1)),
        dict(_log_history=np.array(['a', 'b'])),
        dict(_log_history=np.ones((2, 1))),
    ],
)
def test_a_history_without_numbers_is_refused(tmp_path: Path, state: dict) -> None:
    torch.save(dict(history=forged(**state)), tmp_path / 'forged.pth')
    with pytest.raises(pickle.UnpicklingError, match='log history without its values|Str'):
        read(tmp_path / 'forged.pth')


def test_a_copied_history_is_whole() -> None:
    history = HistoryBuffer([1.0, 3.0], [1, 1], max_length=7)
    found = copy.deepcopy(history)
    found.update(5.0)
    assert found.mean() == 3 and found.max_length == 7 and history.data[0].tolist() == [1, 3]


# In one order in all processes that share the tests: numpy's come from a set.
CLASSES = sorted((e for e in safe_globals() if isinstance(e, type)), key=lambda e: e.__qualname__)


@pytest.mark.parametrize('entry', CLASSES)
def test_no_allowed_class_is_changed_by_a_file(entry: type) -> None:
    """What pickle's BUILD does to a class, or to its only object, is refused or does nothing."""
    before = dict(vars(entry))
    name = f'{entry.__module__}\n{entry.__name__}\n'.encode()
    for payload in (b'c' + name, b'c' + name + b')\x81', b'c' + name + b')R'):
        for state in (b'}\x8c\x04meanK\x01s', b'N}\x8c\x04meanK\x01s\x86'):
            with pytest.raises(Exception):  # noqa: B017, PT011  (whatever the class says)
                RestrictedUnpickler(io.BytesIO(b'\x80\x04' + payload + state + b'b.')).load()
                raise RuntimeError('nothing happened')
    assert dict(vars(entry)) == before and np.float64(1).dtype == np.dtype('float64')


class ChangedType:
    """Pickles as a type of numpy with a state that makes it count references in what it holds."""

    def __init__(self, code: str, size: int) -> None:
        self.state = (3, '<', None, None, None, *((size, 4) if size > 0 else (-1, -1)), 63)
        self.code = code

    def __reduce__(self) -> object:
        return np.dtype, (self.code, False, True), self.state


@pytest.mark.parametrize(('code', 'size'), [('i8', -1), ('U5', 20), ('U5', 1000)])
def test_no_type_of_numpy_is_changed_by_a_file(tmp_path: Path, code: str, size: int) -> None:
    path = tmp_path / 'forged.pth'
    torch.save(dict(kind=ChangedType(code, size)), path)
    with pytest.raises(CheckpointError, match='a change of the type .{2,5} of numpy'):
        read_checkpoint(path)
    if hasattr(torch.serialization, 'safe_globals'):  # of others who read with torch
        if code == 'i8':
            assert load(path)['kind'].flags == 0
        else:
            with pytest.raises(pickle.UnpicklingError):
                load(path)


def test_arrays_of_text_and_their_items(tmp_path: Path) -> None:
    content = dict(names=np.array(['cat', 'wolf']), best=np.str_('wolf'), none=np.array([], 'U1'))
    torch.save(content, tmp_path / 'text.pth')
    found = read_checkpoint(tmp_path / 'text.pth')
    assert found['names'].tolist() == ['cat', 'wolf'] and found['best'] == 'wolf'
    assert found['none'].dtype == np.dtype('U1')


@pytest.mark.parametrize('code', ['>i4', 'O', 'i4,i4', 'S3', 'c8', 'M8[s]'])
def test_types_of_numpy_that_are_not_allowed(tmp_path: Path, code: str) -> None:
    torch.save(dict(array=np.empty(2, code)), tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match='other.pth: .*It is not loaded'):
        read_checkpoint(tmp_path / 'other.pth')


def test_an_array_of_another_size_is_refused(tmp_path: Path) -> None:
    reconstruct = np.empty(0).__reduce__()[0]
    torch.save(Call(reconstruct, np.ndarray, (10**10,), b'b'), tmp_path / 'huge.pth')
    with pytest.raises(pickle.UnpicklingError, match='shape .10000000000,.'):
        read(tmp_path / 'huge.pth')


@needs_allow_list
def test_what_another_library_takes_off_is_allowed_again(tmp_path: Path) -> None:
    """onedl-mmengine allows the same classes for one reading, and takes them off after it."""
    torch.save(dict(history=HistoryBuffer([1.5], [1])), tmp_path / 'epoch_1.pth')
    allow_mmengine_checkpoints()
    with torch.serialization.safe_globals([HistoryBuffer, np.ndarray, np.dtype]):
        pass
    assert HistoryBuffer not in torch.serialization.get_safe_globals()
    assert read_checkpoint(tmp_path / 'epoch_1.pth')['history'].mean() == 1.5


@needs_allow_list
def test_allowing_twice_adds_nothing() -> None:
    allow_mmengine_checkpoints()
    before = torch.serialization.get_safe_globals()
    allow_mmengine_checkpoints()
    assert len(torch.serialization.get_safe_globals()) == len(before)


def test_a_torch_without_an_allow_list_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.serialization, 'add_safe_globals', raising=False)
    allow_mmengine_checkpoints()
