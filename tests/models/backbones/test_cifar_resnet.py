from __future__ import annotations

import pytest

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.backbones import CifarResNet


# As the CRD benchmark's networks, with their head for 100 classes.
@pytest.mark.parametrize(
    ('arguments', 'parameters'),
    [
        (dict(depth=20), 278_324),
        (dict(depth=56), 861_620),
        (dict(depth=110), 1_736_564),
        (dict(depth=32, stem_channels=32, base_channels=64), 7_433_860),
    ],
)
def test_published_parameters(arguments, parameters):
    network = CifarResNet(**arguments)
    channels = 4 * arguments.get('base_channels', 16)
    found = sum(parameter.numel() for parameter in network.parameters())
    assert found + (channels + 1) * 100 == parameters


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
