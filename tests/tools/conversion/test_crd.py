from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from mmengine.runner import load_checkpoint

from conversion import convert_teacher, crd_network
from conversion.crd import detect_crd
from mmkdlayer.errors import CheckpointError, ConfigError

RESNETS = ('resnet8', 'resnet20', 'resnet32', 'resnet56', 'resnet110', 'resnet8x4', 'resnet32x4')
WIDE = ('wrn_16_2', 'wrn_40_1', 'wrn_40_2')
OTHERS = ('ShuffleV1', 'ShuffleV2', 'MobileNetV2', 'ResNet50')
NETWORKS = RESNETS + WIDE + OTHERS


def golden_images():
    values = np.sin(0.013 * np.arange(2 * 3 * 32 * 32))
    return torch.from_numpy(values.astype(np.float32)).reshape(2, 3, 32, 32)


def test_every_network_of_the_zoo_is_tested(crd_tables):
    assert set(NETWORKS) == set(crd_tables)


@pytest.mark.parametrize('name', NETWORKS)
def test_published_weights_give_published_logits(name, crd_state, crd_tables, crd_logits, tmp_path):
    state = crd_state(name)
    table = '\n'.join(f'{key} {",".join(map(str, t.shape))}' for key, t in state.items())
    assert len(state) == crd_tables[name]['entries']
    assert hashlib.sha256(table.encode()).hexdigest() == crd_tables[name]['sha256']
    assert detect_crd(state) == name

    source, target = tmp_path / 'published.pth', tmp_path / 'converted.pth'
    torch.save({'epoch': 240, 'model': state, 'accuracy': torch.tensor(72.3)}, source)
    convert_teacher('crd', source, target)

    classifier = crd_network(name).build(100)
    load_checkpoint(classifier, str(target), strict=True)
    with torch.no_grad():
        logits = classifier.eval()(golden_images(), mode='tensor').numpy()
    golden = crd_logits[name]
    assert np.abs(logits - golden).max() <= 1e-3 * np.abs(golden).max()
    np.testing.assert_allclose(logits, golden, rtol=1e-3, atol=1e-5 * np.abs(golden).max())


def test_golden_logits_notice_a_swapped_tensor(crd_state, crd_logits):
    network = crd_network('ShuffleV1')
    classifier = network.build(100).eval()
    state = crd_state('ShuffleV1')
    own = {key: state[network.source_key(key)] for key in classifier.state_dict()}
    first, second = 'backbone.layers.2.1.', 'backbone.layers.2.2.'
    swapped = {key.replace(first, second) if first in key else key: t for key, t in own.items()}
    classifier.load_state_dict(swapped, strict=False)
    with torch.no_grad():
        logits = classifier(golden_images(), mode='tensor').numpy()
    golden = crd_logits['ShuffleV1']
    assert np.abs(logits - golden).max() > 1e-2 * np.abs(golden).max()


@pytest.mark.parametrize('name', ['resnet14', 'wrn_16_1', 'wrn_22_3', 'resnet14x4'])
def test_further_depths_and_widths_are_found(name, crd_state):
    assert detect_crd(crd_state(name, num_classes=10)) == name


@pytest.mark.parametrize('name', ['resnet21', 'wrn_16', 'wrn_17_2', 'vgg8', 'ResNet18', ''])
def test_unknown_name(name):
    with pytest.raises(ConfigError, match='expected one of resnet'):
        crd_network(name)


def save(state, path):
    torch.save({'model': state}, path)
    return path


def test_missing_extra_and_misshapen_keys_are_named(crd_state, tmp_path):
    state = crd_state('resnet8')
    del state['layer2.0.bn1.weight']
    state['layer2.0.attention.weight'] = torch.zeros(3)
    state['layer3.0.conv2.weight'] = torch.zeros(64, 32, 3, 3)
    with pytest.raises(CheckpointError) as raised:
        convert_teacher('crd', save(state, tmp_path / 'in.pth'), tmp_path / 'out.pth')
    message = str(raised.value)
    assert '1 missing (layer2.0.bn1.weight)' in message
    assert '1 unknown (layer2.0.attention.weight)' in message
    assert 'conv2.weight is (64, 32, 3, 3) there and (64, 64, 3, 3) in the model' in message
    assert '\n' not in message
    assert not (tmp_path / 'out.pth').exists()


def test_named_network_must_fit(crd_state, tmp_path):
    source = save(crd_state('resnet8'), tmp_path / 'in.pth')
    with pytest.raises(CheckpointError, match='entries of resnet14, but found .* missing'):
        convert_teacher('crd', source, tmp_path / 'out.pth', arch='resnet14')
    with pytest.raises(CheckpointError, match="head of ShuffleV1 as 'linear.weight'"):
        convert_teacher('crd', source, tmp_path / 'out.pth', arch='ShuffleV1')


def test_wrong_number_of_classes(crd_state, tmp_path):
    source = save(crd_state('resnet8', num_classes=10), tmp_path / 'in.pth')
    with pytest.raises(CheckpointError, match='expected 100 classes .* but the head has 10'):
        convert_teacher('crd', source, tmp_path / 'out.pth', num_classes=100)
    convert_teacher('crd', source, tmp_path / 'out.pth', num_classes=10)
    written = torch.load(tmp_path / 'out.pth', weights_only=True)
    assert written['meta']['num_classes'] == 10


def test_foreign_network_lists_what_is_known(tmp_path):
    source = save({'features.0.weight': torch.zeros(3)}, tmp_path / 'vgg.pth')
    with pytest.raises(CheckpointError, match='wrn_<6n\\+4>_<k>.*features.0.weight'):
        convert_teacher('crd', source, tmp_path / 'out.pth')
