"""What training writes loads, with any torch; code and crashes do not."""

from __future__ import annotations

import codecs
import io
import os
import pickle
import tarfile
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmkdlayer.checkpoints import read_checkpoint
from mmkdlayer.checkpoints.restricted_pickle import RestrictedUnpickler
from mmkdlayer.errors import CheckpointError


def test_what_mmengine_saves(tmp_path):
    weights = OrderedDict(a=torch.randn(2, 3), half=torch.randn(2).half(), count=torch.tensor(3))
    content = dict(
        state_dict=weights,
        optimizer=dict(state={0: dict(momentum_buffer=torch.ones(2))}, param_groups=[dict(lr=0.1)]),
        param_schedulers=[dict(milestones=Counter([30, 60, 60]))],
        message_hub=dict(log_scalars={'train/loss': HistoryBuffer([1.5, 2.5], [1, 1])}),
        meta=dict(best=np.float64(0.5), seen=np.array([True]), names=('a', 'b'), steps={1, 2}),
    )
    torch.save(content, tmp_path / 'epoch_1.pth')
    found = read_checkpoint(tmp_path / 'epoch_1.pth')
    assert all(torch.equal(found['state_dict'][key], value) for key, value in weights.items())
    assert found['optimizer']['param_groups'] == [dict(lr=0.1)]
    assert found['param_schedulers'] == content['param_schedulers']
    history = found['message_hub']['log_scalars']['train/loss']
    assert history.mean() == 2.0 and history.data[0].tolist() == [1.5, 2.5]
    assert found['meta']['best'] == 0.5 and found['meta']['steps'] == {1, 2}


def test_what_training_writes(make_distillation, tmp_path):
    path = tmp_path / 'epoch_2.pth'
    meta = dict(dataset_meta=dict(classes=('cat', 'dog')), epoch=2, experiment_name='first')
    torch.save(dict(state_dict=make_distillation().state_dict(), meta=meta), path)
    found = read_checkpoint(path)
    expected = torch.load(path, weights_only=False)
    assert found['meta'] == expected['meta'] == meta
    assert found['state_dict'].keys() == expected['state_dict'].keys()
    for key, value in expected['state_dict'].items():
        assert torch.equal(found['state_dict'][key], value)


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    'attack',
    [
        Call(os.system, 'true'),
        Call(eval, '1'),
        Call(getattr, HistoryBuffer, '__init__'),
        Call(getattr, np.ndarray, 'tofile'),
        Call(codecs.encode, 'x', 'rot13'),
        Call(np.load, 'x'),
        Call(torch.load, 'x'),
    ],
    ids=['system', 'eval', 'init', 'tofile', 'codec', 'numpy', 'torch'],
)
@pytest.mark.parametrize('new_format', [True, False])
def test_code_is_refused(attack, new_format, tmp_path):
    path = tmp_path / 'attack.pth'
    torch.save(dict(attack=attack), path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(CheckpointError, match='asks for'):
        read_checkpoint(path)


@pytest.mark.parametrize('state', [b'}\x8c\x07meaningK*s', b'N}\x8c\x07meaningK*s\x86'])
@pytest.mark.parametrize(
    'target', [b'torch._utils\n_rebuild_tensor_v2\n', b'collections\nOrderedDict\n']
)
def test_functions_and_classes_stay_as_they_are(target, state):
    payload = b'\x80\x04c' + target + state + b'b.'
    with pytest.raises(pickle.UnpicklingError, match='asks for a change of'):
        RestrictedUnpickler(io.BytesIO(payload)).load()
    assert not hasattr(torch._utils._rebuild_tensor_v2, 'meaning')


class Program(torch.nn.Module):
    """Stops whoever reads it as TorchScript."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> int:
        return 1

    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        raise ValueError('it ran')


def test_torchscript_is_not_run(tmp_path):
    path = tmp_path / 'program.pth'
    torch.jit.save(torch.jit.script(Program()), str(path))
    with pytest.raises(Exception, match='it ran'):
        torch.jit.load(str(path))
    with pytest.raises(CheckpointError, match='TorchScript program'):
        read_checkpoint(path)


def test_tar_archives_are_not_unpacked(tmp_path):
    path = tmp_path / 'archive.pth'
    with tarfile.open(path, 'w') as archive:
        for name in ('storages', 'tensors', 'pickle'):
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(CheckpointError, match='tar archive'):
        read_checkpoint(path)
