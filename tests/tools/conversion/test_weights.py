from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import torchvision
from mmengine.runner import load_checkpoint

from conversion import convert_teacher, torchvision_network
from mmkdlayer.errors import CheckpointError, ConfigError


def random_torchvision(name, num_classes=7):
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None, num_classes=num_classes)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize('name', ['resnet18', 'resnet34', 'resnet50'])
def test_torchvision_logits(name, tmp_path):
    model = random_torchvision(name)
    torch.save(model.state_dict(), tmp_path / 'in.pth')
    found = convert_teacher('torchvision', tmp_path / 'in.pth', tmp_path / 'out.pth')
    assert found.name == name
    classifier = torchvision_network(name).build(7)
    load_checkpoint(classifier, str(tmp_path / 'out.pth'), strict=True)
    images = torch.randn(2, 3, 96, 80, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(
            classifier.eval()(images, mode='tensor'), model(images), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize('name', ['resnet101', 'resnet152'])
def test_deep_torchvision_keys_fit(name):
    with torch.device('meta'):
        theirs = getattr(torchvision.models, name)(weights=None).state_dict()
    network = torchvision_network(name)
    ours = network.build(1000).state_dict()
    assert {network.source_key(key): t.shape for key, t in ours.items()} == {
        key: t.shape for key, t in theirs.items()
    }


def test_what_is_written(crd_state, tmp_path):
    torch.save(crd_state('resnet8'), tmp_path / 'in.pth')
    target = tmp_path / 'new' / 'folder' / 'out.pth'
    convert_teacher('crd', tmp_path / 'in.pth', target)
    written = torch.load(target, weights_only=True)
    assert set(written) == {'state_dict', 'meta'}
    assert {key.split('.')[0] for key in written['state_dict']} == {'backbone', 'head'}
    assert written['meta']['arch'] == 'resnet8'
    assert written['meta']['backbone'] == {'type': 'mmkdlayer.CifarResNet', 'depth': 8}
    assert [path.name for path in target.parent.iterdir()] == ['out.pth']


def test_data_parallel_old_counters_and_half_precision(crd_state, tmp_path):
    state = crd_state('resnet8')
    old = {
        f'module.{key}': tensor.half()
        for key, tensor in state.items()
        if not key.endswith('num_batches_tracked')
    }
    torch.save({'state_dict': old, 'epoch': 3}, tmp_path / 'in.pth')
    convert_teacher('crd', tmp_path / 'in.pth', tmp_path / 'out.pth')
    weights = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
    assert weights['head.fc.weight'].dtype == torch.float32
    assert weights['backbone.bn1.num_batches_tracked'] == 0
    torch.testing.assert_close(
        weights['backbone.conv1.weight'], state['conv1.weight'].half().float()
    )


def test_numpy_accuracy_beside_the_weights(crd_state, tmp_path):
    extras = {'accuracy': np.float64(72.3), 'best': np.float32(1), 'epoch': np.int64(240)}
    torch.save({'model': crd_state('resnet8'), **extras}, tmp_path / 'in.pth')
    assert convert_teacher('crd', tmp_path / 'in.pth', tmp_path / 'out.pth').name == 'resnet8'


class Malicious:
    def __reduce__(self):
        return (sys.exit, ('code ran',))


@pytest.mark.parametrize('place', ['accuracy', 'model'])
def test_code_in_a_checkpoint_does_not_run(place, crd_state, tmp_path):
    checkpoint = {'model': crd_state('resnet8'), 'accuracy': 1.0}
    checkpoint[place] = Malicious()
    torch.save(checkpoint, tmp_path / 'in.pth')
    with pytest.raises(CheckpointError, match='object sys.exit, which can run any code') as raised:
        convert_teacher('crd', tmp_path / 'in.pth', tmp_path / 'out.pth')
    assert 'weights_only' not in str(raised.value)


@pytest.mark.parametrize('content', [b'', b'<html>404</html>', b'PK\x03\x04broken', b'\x80\x02.'])
def test_damaged_file(content, tmp_path):
    (tmp_path / 'in.pth').write_bytes(content)
    with pytest.raises(CheckpointError, match='damaged or no checkpoint|it is a web page'):
        convert_teacher('crd', tmp_path / 'in.pth', tmp_path / 'out.pth')


def test_truncated_file(crd_state, tmp_path):
    torch.save({'model': crd_state('resnet8')}, tmp_path / 'in.pth')
    content = (tmp_path / 'in.pth').read_bytes()
    (tmp_path / 'in.pth').write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match='damaged or no checkpoint|it is a web page'):
        convert_teacher('crd', tmp_path / 'in.pth', tmp_path / 'out.pth')


@pytest.mark.parametrize('saved', [[1, 2], {'epoch': 3}, {}, torch.zeros(3), {'model': {}}])
def test_no_state_dict(saved, tmp_path):
    torch.save(saved, tmp_path / 'in.pth')
    with pytest.raises(CheckpointError, match='expected a state dict'):
        convert_teacher('crd', tmp_path / 'in.pth', tmp_path / 'out.pth')


def test_wrong_source_names_the_right_one(crd_state, tmp_path):
    torch.save(random_torchvision('resnet18').state_dict(), tmp_path / 'tv.pth')
    with pytest.raises(CheckpointError, match='use the source "torchvision"'):
        convert_teacher('crd', tmp_path / 'tv.pth', tmp_path / 'out.pth')
    torch.save(crd_state('wrn_16_2'), tmp_path / 'crd.pth')
    with pytest.raises(CheckpointError, match='use the source "crd"'):
        convert_teacher('torchvision', tmp_path / 'crd.pth', tmp_path / 'out.pth')
    convert_teacher('crd', tmp_path / 'crd.pth', tmp_path / 'own.pth')
    with pytest.raises(CheckpointError, match="mmpretrain's form"):
        convert_teacher('crd', tmp_path / 'own.pth', tmp_path / 'out.pth')


def test_unknown_torchvision_network():
    with pytest.raises(ConfigError, match='expected one of resnet18'):
        torchvision_network('resnext50_32x4d')


def test_not_finite_weights(crd_state, tmp_path):
    state = crd_state('resnet8')
    for value, words in (('nan', 'fc.bias holds NaN'), ('-inf', '2 values that are not finite')):
        state['fc.bias'][3] = float(value)
        torch.save(state, tmp_path / 'in.pth')
        with pytest.raises(CheckpointError, match=words):
            convert_teacher('crd', tmp_path / 'in.pth', tmp_path / 'out.pth')


def test_places(crd_state, tmp_path):
    source = tmp_path / 'in.pth'
    with pytest.raises(CheckpointError, match='no such file'):
        convert_teacher('crd', source, tmp_path / 'out.pth')
    torch.save(crd_state('resnet8'), source)
    before = source.read_bytes()
    with pytest.raises(CheckpointError, match='the published checkpoint itself'):
        convert_teacher('crd', source, tmp_path / '.' / 'in.pth')
    with pytest.raises(CheckpointError, match='is a folder'):
        convert_teacher('crd', source, tmp_path)
    with pytest.raises(CheckpointError, match='expected to write'):
        convert_teacher('crd', source, source / 'out.pth')
    assert source.read_bytes() == before


def test_failed_write_leaves_the_old_file(crd_state, tmp_path, monkeypatch):
    torch.save(crd_state('resnet8'), tmp_path / 'in.pth')
    target = tmp_path / 'out.pth'
    target.write_bytes(b'old')

    def save_half(checkpoint, path):
        path.write_bytes(b'half')
        raise OSError('disk full')

    monkeypatch.setattr(torch, 'save', save_half)
    with pytest.raises(CheckpointError, match='disk full'):
        convert_teacher('crd', tmp_path / 'in.pth', target)
    assert target.read_bytes() == b'old'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in.pth', 'out.pth']
