"""The reader for torch before 2.4, tried on every torch: what training writes loads, code does not."""

from __future__ import annotations

import codecs
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmkdlayer.deploy.restricted_pickle import load_restricted


def test_what_mmengine_saves(tmp_path):
    weights = OrderedDict(a=torch.randn(2, 3), half=torch.randn(2).half(), count=torch.tensor(3))
    content = dict(
        state_dict=weights,
        optimizer=dict(state={0: dict(momentum_buffer=torch.ones(2))}, param_groups=[dict(lr=0.1)]),
        message_hub=dict(log_scalars={'train/loss': HistoryBuffer([1.5, 2.5], [1, 1])}),
        meta=dict(best=np.float64(0.5), seen=np.array([True]), names=('a', 'b'), steps={1, 2}),
    )
    torch.save(content, tmp_path / 'epoch_1.pth')
    found = load_restricted(tmp_path / 'epoch_1.pth')
    assert all(torch.equal(found['state_dict'][key], value) for key, value in weights.items())
    assert found['optimizer']['param_groups'] == [dict(lr=0.1)]
    history = found['message_hub']['log_scalars']['train/loss']
    assert history.mean() == 2.0 and history.data[0].tolist() == [1.5, 2.5]
    assert found['meta']['best'] == 0.5 and found['meta']['steps'] == {1, 2}


def test_what_training_writes(training):
    found = load_restricted(training.checkpoint)
    expected = torch.load(training.checkpoint, weights_only=False)
    assert found['meta'] == expected['meta']
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
    with pytest.raises(pickle.UnpicklingError, match='asks for'):
        load_restricted(path)
