"""The one reader of weight files, and what it says about files that are none."""

from __future__ import annotations

import argparse
import os
import pickle
import types
import zipfile
from urllib.error import URLError

import numpy as np
import pytest
import safetensors.torch
import torch
from mmengine.logging import HistoryBuffer

from mmkdlayer.checkpoints import hash_file, loading, read_checkpoint, reading
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
    for content in (b'', b'some text', whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r'epoch_1\.pth: .*damaged.*truncated'):
            read_checkpoint(path)


def test_what_is_there_in_the_place_of_a_file(tmp_path):
    for epoch in (1, 2, 3, 10):
        path = tmp_path / f'epoch_{epoch}.pth'
        path.touch()
        os.utime(path, (epoch, epoch))
    newest = f'The newest checkpoints in {tmp_path}: epoch_10.pth, epoch_3.pth, epoch_2.pth.'
    with pytest.raises(CheckpointError) as info:
        read_checkpoint(tmp_path / 'epoch_30.pth')
    assert str(info.value) == f'Checkpoint {tmp_path}/epoch_30.pth: there is no such file. {newest}'
    with pytest.raises(CheckpointError) as info:
        read_checkpoint(tmp_path)
    assert str(info.value) == f'Checkpoint {tmp_path}: it is a folder. {newest}'


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'\n<!DOCTYPE html><html>404</html>', 'it is a web page'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n', 'run git lfs pull'),
        (safetensors.torch.save({'a': torch.ones(2)}), 'it is a safetensors file'),
    ],
)
def test_files_that_are_taken_for_checkpoints(content, words, tmp_path):
    (tmp_path / 'epoch_1.pth').write_bytes(content)
    with pytest.raises(CheckpointError, match=rf'epoch_1\.pth: .*{words}') as raised:
        read_checkpoint(tmp_path / 'epoch_1.pth')
    assert 'damaged' not in str(raised.value)


@pytest.mark.parametrize('value', [np.array([1, 'a'], dtype=object), np.datetime64('2020-01-01')])
def test_values_of_types_that_are_not_allowed(value, tmp_path):
    torch.save(dict(state_dict={'a': torch.ones(1)}, meta=dict(value=value)), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='which is not allowed. It is not loaded') as raised:
        read_checkpoint(tmp_path / 'a.pth')
    assert 'damaged' not in str(raised.value) and 'add_safe_globals' not in str(raised.value)


def test_the_options_of_a_training_by_timm(tmp_path):
    content = dict(state_dict={'a': torch.ones(1)}, args=argparse.Namespace(lr=0.1))
    torch.save(content, tmp_path / 'last.pth.tar')
    assert read_checkpoint(tmp_path / 'last.pth.tar') == content


@pytest.mark.parametrize('protocol', range(1, 6))
@pytest.mark.parametrize('new_format', [True, False])
def test_any_pickle_protocol(protocol, new_format, tmp_path):
    path = tmp_path / 'a.pth'
    content = dict(state_dict={'a': torch.ones(1)}, meta=dict(best=np.float64(0.5), data=b'a'))
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=new_format)
    assert read_checkpoint(path) == content


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
    refused_without_advice(raised.value, 'posix.mkdir')
    assert not (tmp_path / 'somewhere').exists()


def refused_without_advice(error: CheckpointError, name: str) -> None:
    """It names what is refused, calls it no damage, and does not repeat torch's hint."""
    text = str(error)
    assert f'Python object {name}, which can run any code' in text
    assert 'truncated' not in text and 'weights_only' not in text and '\x1b' not in text


@pytest.mark.parametrize('protocol', [2, 4])
@pytest.mark.parametrize('new_format', [True, False])
def test_a_foreign_class_is_named(protocol, new_format, tmp_path):
    path = tmp_path / 'epoch_1.pth'
    content = dict(state_dict={'a': torch.ones(1)}, args=types.SimpleNamespace(lr=0.1))
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=new_format)
    with pytest.raises(CheckpointError) as raised:
        read_checkpoint(path)
    refused_without_advice(raised.value, 'types.SimpleNamespace')


def test_names_of_a_file_are_shown_without_control_characters(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    path.write_bytes(b'\x80\x02c\x1b[1mevil\x1b[0m\nf' + b'x' * 1000 + b'\n.')
    with pytest.raises(
        CheckpointError, match=r'object \?\[1mevil\?\[0m\.fx+\. It is not'
    ) as raised:
        read_checkpoint(path)
    assert len(str(raised.value)) < 600


@pytest.mark.parametrize('attribute', ['__init__', 'register_statistics'])
def test_a_forbidden_attribute_is_no_damage(attribute, tmp_path):
    class Attack:
        def __reduce__(self):
            return getattr, (HistoryBuffer, attribute)

    torch.save(dict(attack=Attack()), tmp_path / 'epoch_1.pth')
    with pytest.raises(CheckpointError, match=f'asks for getattr.*{attribute}') as raised:
        read_checkpoint(tmp_path / 'epoch_1.pth')
    assert 'truncated' not in str(raised.value) and 'weights_only' not in str(raised.value)


def test_a_zip_bomb_is_refused_before_it_is_expanded(tmp_path, monkeypatch):
    whole, bomb = tmp_path / 'whole.pth', tmp_path / 'bomb.pth'
    torch.save(dict(state_dict={'a': torch.zeros(1 << 20)}), whole)
    archive = zipfile.ZipFile(bomb, 'w', zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(whole) as source, archive as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert bomb.stat().st_size < 20000
    monkeypatch.setattr(loading, 'load', lambda *args, **kwargs: pytest.fail('it is loaded'))
    monkeypatch.setattr(
        zipfile.ZipFile, 'open', lambda *args, **kwargs: pytest.fail('it is expanded')
    )
    with pytest.raises(
        CheckpointError, match=r'is \d+ bytes long but holds 4\d+: it is compressed'
    ):
        read_checkpoint(bomb)


def test_a_weight_with_a_bit_flipped_is_damage(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict={'weight': torch.full((1000,), 0.25)}), path)
    data = bytearray(path.read_bytes())
    data[data.index(torch.full((9,), 0.25).numpy().tobytes()) + 4] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r'checksum of \S+data/0 .*damaged'):
        read_checkpoint(path)


@pytest.mark.skipif(
    not hasattr(torch.serialization, 'set_crc32_options'), reason='torch 2.6 and later'
)
def test_a_file_that_was_saved_without_checksums(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(dict(weight=torch.arange(9)), tmp_path / 'weights.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_checkpoint(tmp_path / 'weights.pth')['weight'], torch.arange(9))


@pytest.mark.parametrize('new_format', [True, False])
def test_a_key_that_would_be_hashed_for_ever(new_format, tmp_path):
    key = ()
    for _ in range(60):
        key = (key, key)
    path = tmp_path / 'epoch_1.pth'
    torch.save([key], path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(CheckpointError, match='a tuple of too many values or levels'):
        read_checkpoint(path)


def replaced(path, change):
    """Write a file of torch again, with its pickle changed."""
    with zipfile.ZipFile(path) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, 'w') as target:
        for name, content in entries.items():
            target.writestr(name, change(content) if name.endswith('data.pkl') else content)


def test_a_tensor_that_promises_more_than_there_is(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(a=torch.ones(1000), b=torch.ones(1000)), path)
    # As the count and the shape.
    replaced(path, lambda data: data.replace(b'M\xe8\x03', b'J\x00\xca\x9a\x3b'))
    with pytest.raises(
        CheckpointError, match="tensor '0' has 4000000000 bytes, but there are 4000"
    ):
        read_checkpoint(path)


@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_an_archive_with_two_entries_of_one_name(tmp_path):
    torch.save(dict(a=torch.ones(1000)), tmp_path / 'epoch_1.pth')
    with zipfile.ZipFile(tmp_path / 'epoch_1.pth', 'a') as archive:
        archive.writestr('epoch_1/data/0', b'1234')
    with pytest.raises(CheckpointError, match='two entries of the same name'):
        read_checkpoint(tmp_path / 'epoch_1.pth')


def test_a_tensor_of_the_older_format_that_is_larger_than_its_file(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(a=torch.ones(1000)), path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    path.write_bytes(data.replace(b'M\xe8\x03', b'J\x00\xca\x9a\x3b'))
    with pytest.raises(CheckpointError, match=f'4000000000 bytes, but there are {len(data) + 4}'):
        read_checkpoint(path)


def test_a_key_whose_hash_would_overflow_the_stack(tmp_path):
    torch.save({}, tmp_path / 'epoch_1.pth')
    key = b')' + b'\x85' * 500_000
    replaced(tmp_path / 'epoch_1.pth', lambda _: b'\x80\x02}' + key + b'K\x01s.')
    with pytest.raises(CheckpointError, match='a tuple of too many values or levels'):
        read_checkpoint(tmp_path / 'epoch_1.pth')


def test_a_sparse_tensor_with_indices_beyond_its_size(tmp_path):
    forged = torch.sparse_coo_tensor([[7]], [1.0], (9,))
    torch.save(dict(a=forged), tmp_path / 'epoch_1.pth')
    replaced(tmp_path / 'epoch_1.pth', lambda data: data.replace(b'K\x09\x85', b'K\x05\x85'))
    with pytest.raises(CheckpointError, match='epoch_1.pth: .*size is inconsistent with indices'):
        read_checkpoint(tmp_path / 'epoch_1.pth')


def test_a_checkpoint_is_memory_of_its_own(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(a=torch.ones(5000)), path)
    digest = hash_file(path)
    for expected in (None, digest):
        torch.save(dict(a=torch.ones(5000)), path)
        found = read_checkpoint(path, sha256=expected)['a']
        os.truncate(path, 0)
        assert found.sum() == 5000
    with pytest.raises(CheckpointError, match=f'with the SHA-256 {digest}, but this file has e3b0'):
        read_checkpoint(path, sha256=digest)


@pytest.mark.parametrize('value', ['0', '1'])
def test_the_process_keeps_its_environment(value, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', value)
    torch.save(dict(a=torch.ones(1)), tmp_path / 'weights.pth')
    assert read_checkpoint(tmp_path / 'weights.pth')['a'] == 1
    assert os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] == value


def test_a_download_that_fails(monkeypatch):
    def fail(*args, **kwargs):
        raise URLError('no network')

    monkeypatch.setattr(reading.CheckpointLoader, 'load_checkpoint', fail)
    with pytest.raises(URLError, match='no network'):
        read_checkpoint('https://nowhere/epoch_1.pth')


def test_the_hash_of_a_file(tmp_path):
    (tmp_path / 'file').write_bytes(b'abc')
    assert hash_file(tmp_path / 'file').startswith('ba7816bf8f01cfea')


def test_a_device_whose_memory_is_full_is_not_a_damaged_file(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')

    torch.save(dict(a=torch.ones(1)), tmp_path / 'weights.pth')
    monkeypatch.setattr(reading, 'load_restricted', fail)
    with pytest.raises(torch.cuda.OutOfMemoryError, match='out of memory'):
        read_checkpoint(tmp_path / 'weights.pth', 'cuda')
