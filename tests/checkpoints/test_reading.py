"""The one reader of weight files: what is no checkpoint, and where a state dict is found."""

from __future__ import annotations

import os
import pickle
from urllib.error import URLError

import pytest
import torch

from mmkdlayer.checkpoints import hash_file, read_checkpoint, read_state_dict, reading
from mmkdlayer.errors import CheckpointError


class Program:
    def __reduce__(self):
        return (os.mkdir, ('somewhere',))


def test_files_that_are_no_checkpoints(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    with pytest.raises(CheckpointError, match=r'epoch_1\.pth: there is no such file'):
        read_checkpoint(path)
    torch.save(dict(state_dict={'weight': torch.ones(1000)}), path)
    whole = path.read_bytes()
    for content in (b'', b'<html>404</html>', whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r'epoch_1\.pth: expected tensors .*truncated'):
            read_checkpoint(path)


@pytest.mark.parametrize('plain_pickle', [False, True])
def test_a_file_that_holds_a_program(plain_pickle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'epoch_1.pth'
    if plain_pickle:
        path.write_bytes(pickle.dumps(Program()))
    else:
        torch.save(dict(state_dict={}, meta=Program()), path)
    with pytest.raises(CheckpointError, match='can run any code') as raised:
        read_checkpoint(path)
    assert 'weights_only' not in str(raised.value)  # no advice to switch the safety off
    assert plain_pickle or 'asks for posix.mkdir' in str(raised.value)
    assert not (tmp_path / 'somewhere').exists()


def test_a_download_that_fails(monkeypatch):
    def fail(*args, **kwargs):
        raise URLError('no network')

    monkeypatch.setattr(reading.CheckpointLoader, 'load_checkpoint', fail)
    with pytest.raises(URLError, match='no network'):
        read_checkpoint('https://nowhere/epoch_1.pth')


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('entry', [None, 'state_dict', 'net'])
def test_where_a_state_dict_is_found(entry, prefix, tmp_path):
    state = {f'{prefix}fc.weight': torch.ones(2), f'{prefix}fc.bias': torch.zeros(1)}
    content = state if entry is None else {entry: state, 'meta': {'epoch': 3}}
    torch.save(content, tmp_path / 'epoch_1.pth')
    found, checkpoint = read_state_dict(tmp_path / 'epoch_1.pth', ('net', 'state_dict'))
    assert list(found) == ['fc.weight', 'fc.bias'] and torch.equal(
        found['fc.weight'], torch.ones(2)
    )
    assert checkpoint.get('meta') == (None if entry is None else {'epoch': 3})


@pytest.mark.parametrize(
    'content', [[1, 2], {}, dict(state_dict=3), dict(state_dict={}), dict(epoch=1)]
)
def test_a_checkpoint_without_weights(content, tmp_path):
    torch.save(content, tmp_path / 'other.pth')
    kind = type(content).__name__
    with pytest.raises(
        CheckpointError, match=rf'other\.pth: expected a state dict .* found a {kind}'
    ):
        read_state_dict(tmp_path / 'other.pth')


def test_the_hash_of_a_file(tmp_path):
    (tmp_path / 'file').write_bytes(b'abc')
    assert hash_file(tmp_path / 'file').startswith('ba7816bf8f01cfea')
