from __future__ import annotations

import pytest
import torch
from torch import nn

from mmkdlayer.models.backbones import CifarMobileNetV2


def test_widths_are_cut_not_rounded_to_eight():
    network = CifarMobileNetV2()
    last = [getattr(network, f'layer{i}')[-1].conv[-1].conv.out_channels for i in range(1, 8)]
    assert network.conv1.out_channels == 16
    assert last == [8, 12, 16, 32, 48, 80, 160]


def test_every_block_has_three_convolutions_and_plain_relu():
    network = CifarMobileNetV2()
    blocks = [block for i in range(1, 8) for block in getattr(network, f'layer{i}')]
    assert len(blocks) == 17
    assert all(len(block.conv) == 3 for block in blocks)
    assert not any(isinstance(module, nn.ReLU6) for module in network.modules())
    assert [getattr(network, f'layer{i}')[0].stride for i in range(1, 8)] == [1, 1, 2, 2, 1, 2, 1]


@pytest.mark.parametrize(('widen_factor', 'channels'), [(1.0, 1280), (1.4, 1792)])
def test_other_widths(widen_factor, channels):
    network = CifarMobileNetV2(widen_factor)
    assert network(torch.randn(2, 3, 32, 32))[0].shape == (2, channels, 2, 2)
