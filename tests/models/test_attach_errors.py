"""Places that KD layers can't go to, and forward passes that fail."""

from __future__ import annotations

import pytest
from torch import nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models import attach_kd_layers


@pytest.mark.parametrize(
    ('returns', 'place', 'message'),
    [
        (
            lambda x, y: (x, y),
            'wrapper',
            'returns a tuple of 2, .*output_index to one of 0, 1',
        ),
        (lambda x, y: [x, y], 'wrapper', 'returns a list of 2, .*output_index to one of 0, 1'),
        (lambda x, y: dict(x=y), 'wrapper', "returns a dict of 1, .*output_index to one of 'x'"),
        (lambda x, y: (x, y), ('wrapper', 2), 'returns a tuple of 2, but .*output_index is 2'),
        (lambda x, y: (x, y), ('wrapper', -3), 'returns a tuple of 2, but .*output_index is -3'),
        (lambda x, y: y, ('wrapper', 0), 'returns one tensor, but .*output_index is 0'),
        (
            lambda x, y: dict(x=y),
            ('wrapper', 0),
            "returns a dict of 1, but .*output_index is 0. .* 'x'",
        ),
    ],
)
def test_an_output_that_is_not_what_the_place_says(nets, returns, place, message):
    network = nets.Network(returns)
    module, index = (place, None) if isinstance(place, str) else place
    place = dict(module=module, output_index=index)
    attach_kd_layers(network, dict(one=dict(place, in_channels=4, num_templates=6)))
    with pytest.raises(ConfigError, match=message):
        network(nets.x)


@pytest.mark.parametrize(
    ('name', 'near'),
    [('stage3', 'stage1, stage2'), ('stage1.O', r'stage1\.0'), ('Head', 'head'), ('', 'It has')],
)
def test_a_name_that_does_not_exist_lists_near_ones(nets, name, near):
    with pytest.raises(ConfigError, match=rf'\(Plain\) has no module "{name}"\. .*{near}') as info:
        nets.attach(nets.plain(), one=name)
    assert 'stage' in str(info.value) or name == 'Head'


def test_a_failed_attachment_leaves_the_network_as_it_was(nets):
    network = nets.plain()
    with pytest.raises(ConfigError):
        nets.attach(network, one='stage1', two='nowhere')
    assert not hasattr(network, 'kd_layers')
    assert not network.stage1._forward_hooks and not network._forward_hooks


def test_a_shared_module_is_an_error_that_gives_its_names(nets):
    with pytest.raises(ConfigError, match='"stage2" is shared, it is also .wrapper.'):
        nets.attach(nets.Network(), one='stage2')


def test_a_module_that_runs_twice_is_an_error(nets):
    network = nets.Network(lambda x, y: y, runs=2)
    nets.attach(network, one='wrapper')
    with pytest.raises(ConfigError, match='"wrapper" runs more than once'):
        network(nets.x)


def test_a_module_that_does_not_run_is_an_error(nets):
    network = nets.plain()
    nets.attach(network, one='unused')
    with pytest.raises(ConfigError, match='"unused" did not run'):
        network(nets.x)


def test_a_forward_pass_that_failed_is_forgotten(nets):
    network = nets.attached()
    with pytest.raises(ValueError, match='expected 4D input'):
        network(nets.x[:, :, :, 0])
    network.stage1(nets.x)
    network.stage1(nets.x)
    assert network(nets.x).shape == (3, 2)


def test_a_failure_after_the_layers_ran_is_forgotten(nets):
    network = nets.attached()
    head = network.head
    network.head = nn.Linear(5, 2)
    with pytest.raises(RuntimeError, match='shapes cannot be multiplied'):
        network(nets.x)
    network.head = head
    network.stage1(nets.x)
    assert network(nets.x).shape == (3, 2)


def test_names_that_are_taken(nets):
    network = nets.attached()
    with pytest.raises(ConfigError, match='already has a KD layer "early"'):
        nets.attach(network, early='head')
    with pytest.raises(ConfigError, match='"stage1" already carries a KD layer'):
        nets.attach(network, other='stage1')
    with pytest.raises(ConfigError, match='"stage1" already carries a KD layer'):
        nets.attach(nets.plain(), one='stage1', two='stage1')
    assert list(network.kd_layers) == ['early', 'late']


def test_an_attribute_of_that_name_is_not_overwritten(nets):
    network = nets.plain()
    network.kd_layers = nn.Conv2d(1, 1, 1)
    with pytest.raises(ConfigError, match='kd_layers'):
        nets.attach(network, one='stage1')


@pytest.mark.parametrize(('channels', 'advice'), [(3, 'in_channels=4'), (5, 'in_channels=4')])
def test_other_channels_than_those_of_the_map(nets, channels, advice):
    network = nets.plain()
    attach_kd_layers(
        network, dict(one=dict(module='stage1', in_channels=channels, num_templates=6))
    )
    message = (
        rf'kd_layers\.one: expected a feature map \(N, C={channels}, H, W\), or tokens .* module '
        rf'"stage1", but it returns \(3, 4, 5, 4\)\. Set kd_layers\.one\.{advice}\.'
    )
    with pytest.raises(ConfigError, match=message):
        network(nets.x)


def test_an_output_that_is_no_map(nets):
    network = nets.plain()
    attach_kd_layers(network, dict(one=dict(module='head', in_channels=2, num_templates=6)))
    with pytest.raises(
        ConfigError, match=r'returns \(3, 2\)\. One vector for each image, .* has no positions'
    ):
        network(nets.x)
