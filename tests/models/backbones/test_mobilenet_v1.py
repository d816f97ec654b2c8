from __future__ import annotations

import pytest
import torch
from torch import nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.backbones import MobileNetV1


def test_published_size_and_cost():
    """Howard et al., table 8: 4.2 million parameters and 569 million multiply-adds."""
    network = MobileNetV1()
    network.eval()
    macs = [1024 * 1000]

    def count(module, args, output):
        macs.append(module.weight[0].numel() * output[0].numel())

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.randn(1, 3, 224, 224))
    parameters = sum(parameter.numel() for parameter in network.parameters()) + 1025 * 1000
    assert parameters == 4231976
    assert round(sum(macs) / 1e6) == 569


def test_thirteen_units_of_depthwise_and_pointwise():
    network = MobileNetV1()
    units = [unit for i in range(1, 6) for unit in getattr(network, f'layer{i}')]
    assert len(units) == 13
    for unit in units:
        depthwise, pointwise = (m for m in unit.modules() if isinstance(m, nn.Conv2d))
        assert depthwise.groups == depthwise.in_channels == depthwise.out_channels
        assert depthwise.kernel_size == (3, 3)
        assert pointwise.kernel_size == (1, 1)
        assert sum(isinstance(m, nn.ReLU) for m in unit.modules()) == 2


def test_width():
    network = MobileNetV1(widen_factor=0.25)
    assert network(torch.randn(2, 3, 64, 64))[0].shape == (2, 256, 2, 2)


@pytest.mark.parametrize('arguments', [{'out_indices': (5,)}, {'frozen_stages': 6}])
def test_stages_that_are_not_there(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))} must be within'):
        MobileNetV1(**arguments)
