"""mmengine reads checkpoints as this package does."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
import torch
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader, load_checkpoint
from simulated_cuda.device import SimulatedCuda
from torch import nn

from mmkdlayer.checkpoints import read_for_hosts
from mmkdlayer.checkpoints.host_loaders import _with_restrictions, read_local
from mmkdlayer.errors import CheckpointError


class Program:
    def __reduce__(self):
        return (os.mkdir, ('somewhere',))


class Network(BaseModule):
    def __init__(self, **options):
        super().__init__(**options)
        self.fc = nn.Linear(2, 1)


@pytest.fixture
def state():
    return {'fc.weight': torch.full((1, 2), 3.0), 'fc.bias': torch.zeros(1)}


def test_hosts_read_what_is_fine(state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', str(tmp_path))
    torch.save(dict(state_dict=state, meta=dict(epoch=1)), 'teacher.pth')
    for path in ('teacher.pth', '~/teacher.pth'):
        network = Network(init_cfg=dict(type='Pretrained', checkpoint=path))
        network.init_weights()
        assert torch.equal(network.fc.weight, state['fc.weight'])
    assert load_checkpoint(Network(), 'teacher.pth')['meta'] == dict(epoch=1)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (dict(meta=Program()), 'posix.mkdir, which can run any code'),
        ([1, 2], 'but found a list'),
        ({1: torch.ones(1)}, 'but found a int'),
        (dict(state_dict={'fc.weight': torch.tensor([[1.0, torch.nan]])}), 'fc.weight holds NaN'),
        (dict(state_dict={}, meta='text'), "'meta', but found a str"),
    ],
)
def test_what_is_refused_is_refused_there_too(content, words, tmp_path):
    path = str(tmp_path / 'teacher.pth')
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=rf'teacher\.pth: .*{words}'):
        Network(init_cfg=dict(type='Pretrained', checkpoint=path)).init_weights()


def test_a_config_in_a_checkpoint_is_not_run(state, tmp_path):
    """Runner.resume would."""
    meta = dict(epoch=1, config='import os; os.mkdir("somewhere")')
    torch.save(dict(state_dict=state, meta=meta), tmp_path / 'epoch_1.pth')
    found = CheckpointLoader.load_checkpoint(str(tmp_path / 'epoch_1.pth'))
    assert found['meta'] == dict(epoch=1)


@pytest.mark.parametrize('as_bytes', [False, True])
def test_downloads_run_no_code(as_bytes, state, tmp_path, monkeypatch):
    """torch.hub, through which mmengine downloads, asks for no restrictions."""
    monkeypatch.chdir(tmp_path)
    before = torch.load

    def download(url, map_location=None):
        path = tmp_path / 'net.pth'
        found = io.BytesIO(path.read_bytes()) if as_bytes else str(path)
        return torch.load(found, map_location=map_location, weights_only=False)

    torch.save(dict(meta=Program()), 'net.pth')
    with pytest.raises(Exception, match='asks for the Python object posix.mkdir'):
        _with_restrictions(download)('s3://bucket/net.pth')
    assert not os.path.exists('somewhere') and torch.load is before
    torch.save(dict(state_dict=state, meta=dict(names=np.array(['a']))), 'net.pth')
    found = _with_restrictions(download)('s3://bucket/net.pth', map_location='cpu')
    assert torch.equal(found['state_dict']['fc.weight'], state['fc.weight'])
    assert found['meta']['names'].tolist() == ['a']


def test_every_scheme_is_restricted_once():
    before = dict(CheckpointLoader._schemes)
    read_for_hosts()
    assert CheckpointLoader._schemes == before and before[''] is read_local
    assert all(hasattr(loader, 'restricted') for loader in before.values())


def test_weights_that_were_saved_from_a_gpu_are_read_without_one(state, tmp_path, monkeypatch):
    with monkeypatch.context() as saving:
        saving.setattr(torch.serialization, 'location_tag', lambda storage: 'cuda:0')
        torch.save(dict(state_dict=state), tmp_path / 'teacher.pth')
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match='CUDA'):
            torch.load(tmp_path / 'teacher.pth', weights_only=True)
    network = Network()
    load_checkpoint(network, str(tmp_path / 'teacher.pth'))  # as mmrazor loads a teacher
    assert network.fc.weight.eq(3).all()
    read = _with_restrictions(lambda filename: torch.load(filename))
    assert read(str(tmp_path / 'teacher.pth'))['state_dict']['fc.weight'].device.type == 'cpu'


def test_weights_go_to_no_gpu_that_nobody_named(state, tmp_path):
    """Else each process of a launch would take memory of the first GPU."""
    with SimulatedCuda() as cuda:
        with pytest.MonkeyPatch.context() as saving:
            saving.setattr(torch.serialization, 'location_tag', lambda storage: 'cuda:0')
            torch.save(dict(state_dict=state), tmp_path / 'teacher.pth')
        cuda.events.clear()
        assert not read_local(str(tmp_path / 'teacher.pth'))['state_dict']['fc.weight'].is_cuda
        assert cuda.found('copy') == []
        found = read_local(str(tmp_path / 'teacher.pth'), 'cuda')
        assert found['state_dict']['fc.weight'].is_cuda
