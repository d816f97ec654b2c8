from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.backbones import CifarWideResNet


def plain_forward(network, x):
    """The network written out with functions, in float64, from its parameters by name."""
    state = network.state_dict()

    def norm(x, name):
        mean, var, weight, bias = (
            state[f'{name}.{part}'][None, :, None, None]
            for part in ('running_mean', 'running_var', 'weight', 'bias')
        )
        return ((x - mean) / (var + 1e-5).sqrt() * weight + bias).clamp(min=0)

    x = F.conv2d(x, state['conv1.weight'], padding=1)
    for stage in (1, 2, 3):
        for unit in range((network.depth - 4) // 6):
            name = f'layer{stage}.{unit}'
            stride = 2 if stage > 1 and unit == 0 else 1
            active = norm(x, f'{name}.bn1')
            shortcut = f'{name}.downsample.weight'
            identity = F.conv2d(active, state[shortcut], stride=stride) if shortcut in state else x
            branch = F.conv2d(active, state[f'{name}.conv1.weight'], stride=stride, padding=1)
            branch = norm(branch, f'{name}.bn2')
            x = identity + F.conv2d(branch, state[f'{name}.conv2.weight'], padding=1)
    return norm(x, 'layer3.final.bn')


@pytest.mark.parametrize(('depth', 'widen_factor'), [(16, 2), (16, 1)])
def test_forward_is_the_formula(depth, widen_factor):
    network = CifarWideResNet(depth, widen_factor).double()
    network.eval()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.dim() == 1:
                tensor.uniform_(0.5, 1.5)
        x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
        torch.testing.assert_close(network(x)[0], plain_forward(network, x))
    assert ('layer1.0.downsample.weight' in network.state_dict()) == (widen_factor > 1)


# Zagoruyko and Komodakis, table 4 and appendix: WRN-40-1 0.6M, WRN-40-2 2.2M, WRN-16-4 2.8M.
@pytest.mark.parametrize(
    ('depth', 'widen_factor', 'millions'), [(40, 1, 0.6), (40, 2, 2.2), (16, 4, 2.7)]
)
def test_parameters(depth, widen_factor, millions):
    network = CifarWideResNet(depth, widen_factor)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert round(count / 1e6, 1) == millions


@pytest.mark.parametrize('depth', [14, 20, 4])
def test_wrong_depth(depth):
    with pytest.raises(ConfigError, match=r'depth must be 6n \+ 4 .* got'):
        CifarWideResNet(depth)


@pytest.mark.parametrize(
    'option', ['avg_down', 'base_channels', 'deep_stem', 'drop_path_rate', 'expansion', 'style']
)
def test_options_of_other_networks_are_refused(option):
    with pytest.raises(TypeError, match=option):
        CifarWideResNet(16, **{option: True})
