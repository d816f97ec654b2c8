from __future__ import annotations

import pytest
import torch

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.backbones import CifarResNet


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
