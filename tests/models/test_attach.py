"""KD layers in a network's forward pass, whatever happens to the network afterwards."""

from __future__ import annotations

import collections
import copy
import pickle
from typing import Any

import pytest
import torch
from mmengine.model import ExponentialMovingAverage, revert_sync_batchnorm
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmkdlayer.errors import ConfigError
from mmkdlayer.models import attach_kd_layers

Pair = collections.namedtuple('Pair', ['first', 'second'])


def train_a_step(nets: Any, network: nn.Module) -> Tensor:
    out = network.train()(nets.x)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    optimizer.zero_grad()
    out.square().sum().backward()
    optimizer.step()
    return out.detach()


def test_the_layers_replace_the_outputs_of_sequential_stages(nets):
    network = nets.attached().eval()
    assert torch.equal(network(nets.x), nets.by_hand(network, nets.x))
    bare = nets.plain().eval()
    bare.load_state_dict({k: v for k, v in network.state_dict().items() if 'kd_layers' not in k})
    assert not torch.allclose(network(nets.x), bare(nets.x), atol=1e-2)


def test_layers_live_once_at_the_root(nets):
    network = nets.attached()
    keys = [key for key in network.state_dict() if 'templates.weight' in key]
    assert keys == ['kd_layers.early.templates.weight', 'kd_layers.late.templates.weight']
    before = set(nets.plain().state_dict())
    added = set(network.state_dict()) - before
    assert before <= set(network.state_dict())
    assert all(key.startswith(('kd_layers.early.', 'kd_layers.late.')) for key in added)
    names = [name for name, _ in network.named_parameters(remove_duplicate=False)]
    assert len(names) == len(set(names)) == len(list(network.parameters()))


def test_each_layer_runs_once(nets):
    network, runs = nets.attached(), []
    for name, layer in network.kd_layers.items():
        layer.register_forward_hook(lambda *args, name=name: runs.append(name))
    network(nets.x)
    assert runs == ['early', 'late']


def test_init_weights_reaches_the_layers(nets):
    network = nets.attached()
    before = copy.deepcopy(network.state_dict())
    network.init_weights()
    for name in ('early', 'late'):
        key = f'kd_layers.{name}.templates.weight'
        assert not torch.equal(before[key], network.state_dict()[key])


@pytest.mark.parametrize('twin_of', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_is_independent(nets, twin_of):
    network = nets.attached()
    twin = twin_of(network)
    hooks = [hook for hook in twin.stage1._forward_hooks.values() if hasattr(hook, 'layers')]
    assert [hook.layers[hook.name] for hook in hooks] == [twin.kd_layers['early']]
    theirs = {id(parameter) for parameter in network.parameters()}
    assert not theirs & {id(parameter) for parameter in twin.parameters()}

    state = copy.deepcopy(network.state_dict())
    expected = copy.deepcopy(network).eval()(nets.x)
    first = train_a_step(nets, twin)
    assert torch.equal(network.eval()(nets.x), expected)
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]), name
    changed = {n for n, value in twin.state_dict().items() if not torch.equal(value, state[n])}
    assert {'kd_layers.early.templates.weight', 'kd_layers.late.semantics.weight'} <= changed
    assert torch.equal(twin.eval()(nets.x), nets.by_hand(twin, nets.x))

    after = copy.deepcopy(twin.state_dict())
    assert torch.equal(train_a_step(nets, network), first)
    for name, value in twin.state_dict().items():
        assert torch.equal(value, after[name]), name
        torch.testing.assert_close(network.state_dict()[name], value)


def test_a_whole_saved_model_loads(nets, tmp_path):
    network = nets.attached().eval()
    expected = network(nets.x)
    torch.save(network, tmp_path / 'network.pth')
    loaded = torch.load(tmp_path / 'network.pth', weights_only=False)
    assert torch.equal(loaded(nets.x), expected)
    assert torch.equal(loaded(nets.x), nets.by_hand(loaded, nets.x))


def test_an_averaged_model_has_layers_of_its_own(nets):
    network = nets.attached()
    averaged = ExponentialMovingAverage(network, momentum=0.5)
    for _ in range(2):
        train_a_step(nets, network)
        averaged.update_parameters(network)
    twin = averaged.module
    hooks = [hook for hook in twin.stage2._forward_hooks.values() if hasattr(hook, 'layers')]
    assert [hook.layers[hook.name] for hook in hooks] == [twin.kd_layers['late']]
    assert twin.kd_layers['late'] is not network.kd_layers['late']
    assert not torch.equal(
        twin.kd_layers['late'].templates.weight, network.kd_layers['late'].templates.weight
    )
    assert torch.equal(averaged.eval()(nets.x), nets.by_hand(twin, nets.x))


@pytest.mark.parametrize('reentrant', [False, True])
def test_activation_checkpointing_of_a_stage(nets, reentrant):
    def gradients(checkpointed: bool) -> dict[str, Tensor]:
        network = nets.attached()
        if checkpointed:
            forward = network.stage2.forward
            network.stage2.forward = lambda x: checkpoint(forward, x, use_reentrant=reentrant)
        network(nets.x).square().sum().backward()
        return {name: parameter.grad for name, parameter in network.named_parameters()}

    expected, found = gradients(False), gradients(True)
    for name, value in expected.items():
        if not name.startswith('unused'):
            torch.testing.assert_close(found[name], value)


@pytest.mark.filterwarnings('ignore:.*use_reentrant')
@pytest.mark.parametrize('modules', [['stage1', 'stage2'], ['body']])
def test_mmengine_activation_checkpointing(nets, modules):
    """Around the named stages, and around what holds them: there the layers run again."""

    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.body = nets.plain()

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x)

    def gradients(checkpointed: bool) -> dict[str, Tensor]:
        network = Nested()
        torch.manual_seed(1)
        nets.attach(network, early='body.stage1', late='body.stage2')
        if checkpointed:
            names = [name if name == 'body' else f'body.{name}' for name in modules]
            turn_on_activation_checkpointing(network, names)
        for _ in range(2):
            network.zero_grad()
            network(nets.x.clone().requires_grad_()).square().sum().backward()
        return {name: parameter.grad for name, parameter in network.named_parameters()}

    expected, found = gradients(False), gradients(True)
    for name, value in expected.items():
        if 'unused' not in name:
            torch.testing.assert_close(found[name], value, msg=name)


def test_sync_batch_norm_conversion_and_back(nets):
    network = nets.attached().eval()
    expected = network(nets.x)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    assert isinstance(converted.kd_layers['early'].bn, nn.SyncBatchNorm)
    back = revert_sync_batchnorm(converted).eval()
    torch.testing.assert_close(back(nets.x), expected)
    torch.testing.assert_close(back(nets.x), nets.by_hand(back, nets.x))


def test_a_batch_norm_that_conversion_replaces_is_an_error_and_not_silence(nets):
    network = nets.plain()
    nets.attach(network, one='stage1.1')
    network = nn.SyncBatchNorm.convert_sync_batchnorm(network).eval()
    with pytest.raises(ConfigError, match='"stage1.1" did not run.*SyncBN conversion'):
        network(nets.x)


def test_optimiser_settings_by_name_reach_the_layers_once(nets):
    network = nets.attached()
    constructor = DefaultOptimWrapperConstructor(
        dict(optimizer=dict(type='SGD', lr=0.1, weight_decay=0.01)),
        dict(custom_keys={'kd_layers': dict(lr_mult=10, decay_mult=0)}),
    )
    groups = constructor(network).optimizer.param_groups
    ours = {id(parameter) for parameter in network.kd_layers.parameters()}
    seen = [id(parameter) for group in groups for parameter in group['params']]
    assert len(seen) == len(set(seen)) == len(list(network.parameters()))
    for group in groups:
        for parameter in group['params']:
            expected = (1.0, 0) if id(parameter) in ours else (0.1, 0.01)
            assert (group['lr'], group['weight_decay']) == pytest.approx(expected)


@pytest.mark.parametrize('index', [1, -1])
@pytest.mark.parametrize(
    'returns', [lambda x, y: (x, y), lambda x, y: [x, y], lambda x, y: Pair(x, y)]
)
def test_a_chosen_output_of_several(nets, returns, index):
    torch.manual_seed(0)
    network = nets.Network(returns).eval()
    place = dict(module='wrapper', output_index=index)
    attach_kd_layers(network, dict(one=dict(place, in_channels=4, num_templates=6)))
    layer = network.eval().kd_layers['one']
    kept, replaced = outputs = network.wrapper(network.stage1(nets.x))
    assert type(outputs) is type(returns(0, 1))
    assert torch.equal(kept, network.stage1(nets.x))
    assert torch.equal(replaced, layer(network.wrapper.inner(network.stage1(nets.x))))
    assert torch.equal(network(nets.x), network.head(replaced.mean((2, 3))))


def test_parts_of_the_network_may_run_alone(nets):
    network = nets.attached()
    alone = [network.stage1(nets.x) for _ in range(3)]
    network(nets.x)
    alone += [network.stage1(nets.x) for _ in range(2)]
    assert all(part.shape == alone[0].shape for part in alone)


def test_layers_can_be_added_later(nets):
    network = nets.attached()
    nets.attach(network, third='stage1.0')
    network.eval()
    x = network.kd_layers['third'](
        network.stage1[0]._conv_forward(nets.x, *network.stage1[0].parameters())
    )
    for block in (*list(network.stage1)[1:], network.kd_layers['early']):
        x = block(x)
    x = network.kd_layers['late'](network.stage2[1](network.stage2[0](x)))
    assert torch.equal(network(nets.x), network.head(x.mean((2, 3))))


def test_nothing_to_attach_changes_nothing(nets):
    network = nets.plain()
    attach_kd_layers(network, {})
    assert not hasattr(network, 'kd_layers')


def test_a_hook_that_is_attached_later_sees_the_output_of_the_layer(nets):
    network = nets.plain()
    seen: dict[str, Tensor] = {}
    network.stage1.register_forward_hook(lambda m, i, out: seen.update(before=out))
    nets.attach(network, one='stage1')
    network.stage1.register_forward_hook(lambda m, i, out: seen.update(after=out))
    network.kd_layers['one'].register_forward_hook(lambda m, i, out: seen.update(i=i[0], out=out))
    network.eval()(nets.x)
    assert seen['before'] is seen['i'] and seen['after'] is seen['out']


def test_a_layer_that_is_replaced_or_deleted_takes_effect_at_once(nets):
    network = nets.attached().eval()
    expected = network(nets.x)
    layers = dict(network.kd_layers)
    network.kd_layers['early'] = nn.Identity()
    replaced = network(nets.x)
    assert not torch.allclose(replaced, expected, atol=1e-2)
    del network.kd_layers['early']
    assert torch.equal(network(nets.x), replaced)
    network.kd_layers['early'] = layers['early']
    assert torch.equal(network(nets.x), expected)
