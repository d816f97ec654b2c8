"""All products of layers, decisions and losses have the stated precision, forward and backward."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from simulated_cuda.device import SimulatedCuda, skip_with_old_torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmkdlayer.errors import ConfigError
from mmkdlayer.models import (
    CentroidDecision,
    KDLayerConnector,
    SubclassDecision,
    TeacherDecision,
    TeacherDecisionLoss,
    set_precision,
)

PRODUCTS = {
    'mm', 'addmm', 'addmm_', 'bmm', 'baddbmm', 'linear', 'convolution', 'convolution_backward',
}  # fmt: skip
CHANNELS, CLASSES, SUBCLASSES = 4, 3, 2


class Watch(TorchDispatchMode):
    """Notes the switch for products at each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in PRODUCTS:
            self.found.append((name, torch.get_float32_matmul_precision()))
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def fewer_bits() -> Iterator[None]:
    """The user's setting, outside of the layers."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # that the old form goes one day
        torch.set_float32_matmul_precision('high')
        yield
        assert torch.get_float32_matmul_precision() == 'high'
        torch.set_float32_matmul_precision('highest')


def make_decision(kind: str) -> TeacherDecision:
    size = CLASSES * SUBCLASSES
    if kind == 'centroid':
        return CentroidDecision.from_tables(torch.randn(size, CHANNELS))
    table = torch.rand(size, size).softmax(1)
    return SubclassDecision.from_tables(
        torch.randn(2, CHANNELS), torch.randn(2), torch.randn(size, 2), table, CLASSES
    )


def step(
    layer: KDLayerConnector, loss: TeacherDecisionLoss, soft: bool, device: str = 'cpu'
) -> None:
    x = torch.randn(16, CHANNELS, 3, 2, device=device, requires_grad=True)
    feature = torch.randn(16, CHANNELS, 3, 2, device=device)
    label = torch.arange(16, device=device) % CLASSES
    if soft:
        label = torch.rand(16, CLASSES, device=device).softmax(1)
    recorded: list[Tensor] = []
    handle = layer.templates.register_forward_hook(lambda m, args, out: recorded.append(out))
    output = layer(x)
    handle.remove()
    value = loss(recorded.pop(), feature, label)
    torch.autograd.backward([value, output], [None, torch.ones_like(output)])


@pytest.mark.parametrize('kind', ['centroid', 'subclass', 'soft'])
@pytest.mark.parametrize('implementation', ['memory_efficient', 'reference'])
@pytest.mark.parametrize('training', [True, False])
def test_full_float32_on_a_cpu(implementation: str, kind: str, training: bool) -> None:
    decision = make_decision(kind)
    layer = KDLayerConnector(CHANNELS, 6, implementation=implementation).train(training)
    loss = TeacherDecisionLoss(decision, implementation=implementation)
    with Watch() as watch:
        step(layer, loss, kind == 'soft')
        decision.decide(torch.randn(2, CHANNELS, 2, 2), torch.tensor([0, 1]))
        with torch.no_grad():
            layer(torch.randn(2, CHANNELS, 3, 3))
    assert len(watch.found) >= 6
    assert {setting for _, setting in watch.found} == {'highest'}, watch.found


@pytest.mark.parametrize('precision', ['float32', 'tf32'])
@pytest.mark.parametrize('implementation', ['memory_efficient', 'reference'])
def test_the_setting_on_a_simulated_gpu(implementation: str, precision: str) -> None:
    if torch.cuda.is_available():
        pytest.skip('there is a GPU: it is not simulated')
    skip_with_old_torch()
    loss = TeacherDecisionLoss(make_decision('centroid'), implementation=implementation)
    model = nn.ModuleList([KDLayerConnector(CHANNELS, 6, implementation=implementation), loss])
    set_precision(model, precision)
    torch.set_float32_matmul_precision('high' if precision == 'float32' else 'highest')
    with SimulatedCuda(), Watch() as watch:
        model.to('cuda')
        step(model[0], loss, False, 'cuda')
        in_training = len(watch.found)
        model.eval()
        step(model[0], loss, False, 'cuda')
        with torch.no_grad():
            model[0](torch.randn(2, CHANNELS, 3, 3, device='cuda'))
    torch.set_float32_matmul_precision('high')
    wanted = 'highest' if precision == 'float32' else 'high'
    assert in_training >= 6 and len(watch.found) >= 2 * in_training + 2
    assert {setting for _, setting in watch.found} == {wanted}, watch.found
    # Convolutions on a GPU have a switch of their own, which allows TF32 by default.
    assert not {name for name, _ in watch.found if 'convolution' in name}


def test_the_second_derivative_of_the_plain_formula_is_right_and_in_full_float32() -> None:
    layer = KDLayerConnector(3, 6, implementation='reference').double()
    x = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    layer.bn.momentum = 0.0
    assert torch.autograd.gradgradcheck(layer, (x,))
    with Watch() as watch:
        (grad,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
        grad.square().sum().backward()
    assert {setting for _, setting in watch.found} == {'highest'}


def test_of_every_module() -> None:
    loss = TeacherDecisionLoss(make_decision('centroid'))
    model = nn.ModuleDict(dict(layer=KDLayerConnector(4, 6), loss=loss))
    set_precision(model, 'tf32')
    layer: Any = model['layer']
    found = layer.templates.precision, layer.semantics.precision, loss.decision.precision
    assert found == ('tf32',) * 3
    with pytest.raises(ConfigError, match="'float32' or 'tf32', but got 'half'"):
        set_precision(model, 'half')
