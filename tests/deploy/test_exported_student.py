"""Loading exported students, whole and damaged."""

from __future__ import annotations

import pickle
import re

import pytest
import torch

from mmkdlayer import load_student
from mmkdlayer.deploy import export_student
from mmkdlayer.errors import CheckpointError, ConfigError


@pytest.fixture
def exported(training, tmp_path):
    export_student(training.cfg, training.checkpoint, tmp_path / 'student')
    return tmp_path / 'student'


@pytest.fixture
def unsealed(exported):
    """An export whose config does not know its weights, as after changing them on purpose."""
    config = exported / 'student.py'
    text, count = re.subn(r"weights_sha256 ?= ?'[0-9a-f]{64}'\n", '', config.read_text())
    assert count == 1
    config.write_text(text)
    return exported


def test_it_is_ready_for_inference(exported):
    student = load_student(str(exported), device='cpu')
    assert not any(module.training for module in student.modules())
    assert student._dataset_meta == dict(classes=['cat', 'dog', 'owl'])
    assert student._config.test_dataloader.dataset.pipeline
    assert not hasattr(student, 'teacher')


def test_the_weights_are_only_weights(exported):
    content = torch.load(exported / 'student.pth', weights_only=True)
    assert set(content) == {'state_dict', 'meta'}
    meta = content['meta']
    assert (meta['epoch'], meta['iter'], meta['dataset_meta']) == (
        2,
        2,
        dict(classes=['cat', 'dog', 'owl']),
    )
    assert 'secret' not in str(meta)


@pytest.mark.parametrize('name', ['student.py', 'student.pth'])
def test_a_folder_that_lacks_a_file(name, exported):
    (exported / name).unlink()
    with pytest.raises(
        ConfigError, match=rf'no exported student: it has no {name}.*export_student'
    ):
        load_student(exported)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r'nowhere is no exported student.*student\.py'):
        load_student(tmp_path / 'nowhere')


@pytest.mark.parametrize('share', [0, 0.3, 0.9])
def test_truncated_weights(share, exported):
    file = exported / 'student.pth'
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r'student\.pth: expected the weights.*truncated'):
        load_student(exported)


@pytest.mark.parametrize('share', [0, 0.3, 0.9])
def test_truncated_weights_without_a_hash(share, unsealed):
    file = unsealed / 'student.pth'
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r'student\.pth: expected tensors.*truncated'):
        load_student(unsealed)


def test_one_changed_bit_of_a_weight(exported):
    file = exported / 'student.pth'
    content = bytearray(file.read_bytes())
    weight = load_student(exported).head.fc.weight.detach().numpy().tobytes()
    place = bytes(content).index(weight)
    content[place + 3] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r'SHA-256 [0-9a-f]{64}, but this file has [0-9a-f]{64};'
    ):
        load_student(exported)


def test_whole_weights_of_another_export(exported):
    content = torch.load(exported / 'student.pth', weights_only=True)
    content['state_dict']['head.fc.bias'] += 1
    torch.save(content, exported / 'student.pth')
    with pytest.raises(CheckpointError, match='belongs to another export'):
        load_student(exported)


def test_weights_that_were_changed_on_purpose(unsealed, make_batch):
    inputs, _ = make_batch()
    before = load_student(unsealed)(inputs)
    content = torch.load(unsealed / 'student.pth', weights_only=True)
    content['state_dict']['head.fc.bias'] += 1
    torch.save(content, unsealed / 'student.pth')
    torch.testing.assert_close(load_student(unsealed)(inputs), before + 1)


def test_weights_that_would_run_code_are_refused(unsealed, tmp_path):
    class Code:
        def __reduce__(self):
            return (open, (str(tmp_path / 'ran'), 'w'))

    (unsealed / 'student.pth').write_bytes(pickle.dumps(dict(state_dict={}, meta=Code())))
    with pytest.raises(CheckpointError, match='can run any code'):
        load_student(unsealed)
    torch.save(dict(state_dict={}, meta=Code()), unsealed / 'student.pth')
    with pytest.raises(CheckpointError, match='can run any code'):
        load_student(unsealed)
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('content', [{}, [], dict(state_dict={})])
def test_weights_without_what_an_export_holds(content, unsealed):
    torch.save(content, unsealed / 'student.pth')
    with pytest.raises(CheckpointError, match=r'student\.pth'):
        load_student(unsealed)


def test_weights_that_do_not_fit_the_config(unsealed):
    content = torch.load(unsealed / 'student.pth', weights_only=True)
    del content['state_dict']['head.fc.bias']
    torch.save(content, unsealed / 'student.pth')
    with pytest.raises(
        CheckpointError, match=r'student\.pth does not fit .*KDLayerClassifier.*head\.fc'
    ):
        load_student(unsealed)
