"""A step in float16 with vectors of all lengths keeps its loss scale, and its gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmkdlayer.models import CentroidDecision, KDLayerConnector, TeacherDecisionLoss
from mmkdlayer.models.connectors.unit_conv import HALF_SHORTEST

IMAGES, CHANNELS, TEMPLATES, SIDE = 16, 16, 64, 8
LOSS_SCALE = 2.0**16


def gradient_of(
    layer: KDLayerConnector, decision: CentroidDecision, x: Tensor, feature: Tensor
) -> dict[str, Tensor]:
    """Gradients of the scaled loss and a mean of the output."""
    layer.zero_grad()
    x = x.clone().requires_grad_()
    recorded: list[Tensor] = []
    handle = layer.templates.register_forward_hook(lambda m, args, out: recorded.append(out))
    output = layer(x)
    handle.remove()
    loss = TeacherDecisionLoss(decision, implementation=layer.implementation)
    value = loss(recorded.pop(), feature.to(x.dtype))
    value = value + output.to(torch.promote_types(x.dtype, torch.float32)).mean()
    (value * LOSS_SCALE).backward()
    found = {name: parameter.grad for name, parameter in layer.named_parameters()}
    return {**found, 'x': x.grad}  # type: ignore[dict-item]


@pytest.mark.parametrize('implementation', ['memory_efficient', 'reference'])
def test_lengths_from_1e_7_to_1e3(implementation: str) -> None:
    generator = torch.Generator().manual_seed(0)
    size = (IMAGES, CHANNELS, SIDE, SIDE)
    x = torch.randn(size, generator=generator)
    lengths = 10 ** torch.linspace(-7, 3, IMAGES * SIDE * SIDE).view(IMAGES, 1, SIDE, SIDE)
    x = (x / x.norm(dim=1, keepdim=True) * lengths).half()
    feature = torch.randn(size, generator=generator)
    decision = CentroidDecision.from_tables(torch.randn(TEMPLATES, CHANNELS, generator=generator))
    layer = KDLayerConnector(CHANNELS, TEMPLATES, implementation=implementation)
    found = gradient_of(layer, decision, x, feature)
    assert all(bool(value.isfinite().all()) for value in found.values())
    layer.double()
    layer.implementation = 'reference'
    expected = gradient_of(layer, decision, x.double(), feature.double())
    for name, value in found.items():
        if name != 'x':
            scale = float(expected[name].abs().max())
            torch.testing.assert_close(value.double(), expected[name], atol=2e-3 * scale, rtol=0)
    # A map in float16 has 11 bits; so has its gradient, down to 6e-8.
    length = x.double().norm(dim=1, keepdim=True)
    # What comes through the shortcut has no floor.
    shortcut = LOSS_SCALE / x.numel()
    floor = (length / HALF_SHORTEST).clamp(max=1)
    right = (expected['x'] - shortcut) * floor + shortcut
    error = (found['x'].double() - right).abs().amax(1, keepdim=True)
    scale = right.abs().amax(1, keepdim=True)
    normal = length >= HALF_SHORTEST
    assert bool((error[normal] <= 4e-3 * scale[normal] + 1e-6).all())
    short = (length < HALF_SHORTEST) & (length > 1e-4)  # below, float16 rounds the map itself
    assert bool((error[short] <= 4e-3 * scale[short] + 1e-6).all())


@pytest.mark.parametrize('implementation', ['memory_efficient', 'reference'])
def test_compiled_layers_have_the_floor(implementation: str) -> None:
    x = torch.randn(2, CHANNELS, SIDE, SIDE)
    x[0, :, 0, 0] *= 1e-5 / x[0, :, 0, 0].norm()
    layer = KDLayerConnector(CHANNELS, TEMPLATES, implementation=implementation)
    found = []
    torch._dynamo.reset()
    for forward in (layer, torch.compile(layer, backend='eager')):
        half = x.half().requires_grad_()
        (forward(half).float().square().mean() * LOSS_SCALE).backward()
        assert half.grad is not None and bool(half.grad.isfinite().all())
        found.append(half.grad)
    torch.testing.assert_close(found[1], found[0])


def test_a_position_that_is_zero_has_no_gradient_of_its_own() -> None:
    layer = KDLayerConnector(CHANNELS, TEMPLATES)
    for dtype in (torch.float16, torch.float32, torch.float64):
        x = torch.randn(2, CHANNELS, 4, 4, dtype=dtype)
        x[0, :, 0, 0] = 0
        x.requires_grad_()
        layer.to(torch.promote_types(dtype, torch.float32))
        (layer(x) - x).sum().backward()
        assert x.grad is not None and bool(x.grad.isfinite().all())
        assert not x.grad[0, :, 0, 0].any()
        assert x.grad[0, :, 0, 1].any()
