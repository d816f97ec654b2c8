from __future__ import annotations

import pytest
import torch

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.backbones import CifarResNet
from mmkdlayer.models.backbones.cifar_resnet import PaddedShortcut


def count_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def plain_pad(x, out_channels, stride):
    """Loops: position (i, j) of the output is (stride * i, stride * j) of the input, or zero."""
    count, channels, height, width = x.shape
    rows, columns = range(0, height, stride), range(0, width, stride)
    out = torch.zeros(count, out_channels, len(rows), len(columns))
    for c in range(channels):
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                out[:, c, i, j] = x[:, c, row, column]
    return out


@pytest.mark.parametrize(('side', 'stride'), [(8, 2), (7, 2), (4, 1)])
def test_padded_shortcut(side, stride):
    x = torch.randn(2, 3, side, side + 2)
    assert torch.equal(PaddedShortcut(3, 5, stride)(x), plain_pad(x, 5, stride))


# Table 6 of He et al.: 0.27M, 0.46M, 0.85M, 1.7M, with their head for 10 classes and option A.
@pytest.mark.parametrize(('depth', 'millions'), [(20, 0.27), (32, 0.46), (56, 0.85), (110, 1.7)])
def test_option_a_has_the_published_parameters(depth, millions):
    network = CifarResNet(depth, shortcut='pad')
    digits = 1 if depth == 110 else 2
    assert round((count_parameters(network) + 650) / 1e6, digits) == millions


def test_shortcuts_differ_by_their_convolutions_alone():
    conv, pad = CifarResNet(20), CifarResNet(20, shortcut='pad')
    extra = set(conv.state_dict()) - set(pad.state_dict())
    assert set(pad.state_dict()) < set(conv.state_dict())
    assert {'.'.join(name.split('.')[:3]) for name in extra} == {
        'layer2.0.downsample',
        'layer3.0.downsample',
    }
    assert count_parameters(conv) - count_parameters(pad) == 16 * 32 + 64 + 32 * 64 + 128


def test_option_a_trains_and_keeps_shapes():
    network = CifarResNet(8, shortcut='pad', out_indices=(0, 1, 2), stem_channels=8)
    outputs = network(torch.randn(2, 3, 33, 31))
    assert [tuple(out.shape[1:]) for out in outputs] == [(16, 33, 31), (32, 17, 16), (64, 9, 8)]
    outputs[-1].sum().backward()
    assert network.conv1.weight.grad.abs().sum() > 0


def test_residual_branches_start_alive():
    network = CifarResNet(8)
    network.init_weights()
    assert (network.layer1[0].norm2.weight == 1).all()
    network = CifarResNet(8, zero_init_residual=True)
    network.init_weights()
    assert (network.layer1[0].norm2.weight == 0).all()


@pytest.mark.parametrize('depth', [18, 21, 2, 0, '20'])
def test_wrong_depth(depth):
    with pytest.raises(ConfigError, match=r'depth must be 6n \+ 2 .* got'):
        CifarResNet(depth)


def test_wrong_shortcut():
    with pytest.raises(ConfigError, match="shortcut must be one of .* got 'A'"):
        CifarResNet(20, shortcut='A')
