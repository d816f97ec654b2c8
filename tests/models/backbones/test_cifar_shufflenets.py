from __future__ import annotations

import pytest
import torch

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.backbones import CifarShuffleNetV1, CifarShuffleNetV2
from mmkdlayer.models.backbones.cifar_shufflenet_v1 import CifarShuffleUnit


def test_stem_keeps_the_size():
    for network in (CifarShuffleNetV1(), CifarShuffleNetV2()):
        stem = network.maxpool(network.conv1(torch.randn(1, 3, 32, 32)))
        assert stem.shape == (1, 24, 32, 32)
        assert network.conv1.conv.kernel_size == (1, 1)


def test_bottlenecks_are_a_quarter_of_the_branch():
    network = CifarShuffleNetV1()
    widths = [
        [unit.g_conv_1x1_compress.conv.out_channels for unit in stage] for stage in network.layers
    ]
    assert widths == [[54, 60, 60, 60], [60] + [120] * 7, [120] + [240] * 3]
    groups = [unit.compress_groups for stage in network.layers for unit in stage]
    assert groups == [1] + [3] * 15


def test_branch_comes_before_the_pooled_input():
    cfgs = {'norm_cfg': {'type': 'BN'}, 'act_cfg': {'type': 'ReLU'}}
    unit = CifarShuffleUnit(6, 18, 3, 3, downsample=True, **cfgs).eval()
    x = torch.randn(1, 6, 8, 8)
    expected = torch.nn.functional.avg_pool2d(x, 3, 2, 1).clamp(min=0)
    out = unit(x)
    torch.testing.assert_close(out[:, 12:], expected)
    assert not torch.allclose(out[:, :6], expected)


@pytest.mark.parametrize(('groups', 'channels'), [(1, 576), (2, 800)])
def test_other_groups(groups, channels):
    network = CifarShuffleNetV1(groups=groups)
    assert network(torch.randn(1, 3, 32, 32))[0].shape == (1, channels, 4, 4)


@pytest.mark.parametrize('groups', [0, 4, 8])
def test_groups_that_do_not_divide_the_first_bottleneck(groups):
    with pytest.raises(ConfigError, match=f'groups must be 1, 2 or 3, but got {groups}'):
        CifarShuffleNetV1(groups=groups)


@pytest.mark.parametrize(('widen_factor', 'channels'), [(0.5, 1024), (1.5, 1024)])
def test_other_widths(widen_factor, channels):
    network = CifarShuffleNetV2(widen_factor=widen_factor)
    assert network(torch.randn(1, 3, 32, 32))[0].shape == (1, channels, 4, 4)
