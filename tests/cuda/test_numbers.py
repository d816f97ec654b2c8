"""Layer, loss, decisions and fitting on a GPU give the numbers of the CPU in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from building import SHAPES, Shape, make_decision
from gpu_cases import has_triton
from torch import Tensor, nn

from mmkdlayer.fitting import fit_centroids, fit_subclasses
from mmkdlayer.models import KDLayerConnector, TeacherDecision, TeacherDecisionLoss

#: Images, channels, side, templates, classes: more than one tile on a GPU is not needed for the numbers.
KINDS = dict(subclasses=Shape(16, 64, 7, 160, 20), centroids=Shape(16, 64, 7, 160))
#: Relative to the largest number of a tensor; TF32 would be off by 1e-4 to 1e-3.
TOLERANCE = 2e-5


def results(
    layer: KDLayerConnector, loss: TeacherDecisionLoss, x: Tensor, feature: Tensor, label: Tensor
) -> dict[str, Tensor]:
    """Scores, output and loss, and the gradients of all that learns, in float64 on the CPU."""
    x = x.clone().requires_grad_()
    recorded: list[Tensor] = []
    handle = layer.templates.register_forward_hook(lambda m, args, out: recorded.append(out))
    output = layer(x)
    handle.remove()
    value = loss(recorded[0], feature, label)
    (value + output.square().mean()).backward()
    found = {f'gradient of {name}': p.grad for name, p in layer.named_parameters()}
    found.update(scores=recorded[0], output=output, loss=value, x=x.grad)
    return {
        name: tensor.detach().double().cpu() for name, tensor in found.items() if tensor is not None
    }


def assert_near(found: Tensor, expected: Tensor, name: str, tolerance: float = TOLERANCE) -> None:
    error = (found - expected).abs().max() / expected.abs().max().clamp(min=1e-12)
    assert error < tolerance, f'{name}: {float(error):.1e}'


@pytest.mark.parametrize('implementation', ['memory_efficient', 'reference', 'triton'])
@pytest.mark.parametrize('kind', KINDS)
def test_layer_and_loss(kind: str, implementation: str, device: str, tf32: bool) -> None:
    if implementation == 'triton' and not has_triton(device):
        pytest.skip('needs Triton and a GPU')
    images, channels, side, templates, classes = KINDS[kind]
    decision = make_decision(templates, channels, classes, 'cpu')
    layer = KDLayerConnector(channels, templates, implementation='reference')
    nn.init.uniform_(layer.bn.weight, 0.5, 1.5)
    x = torch.randn(images, channels, side, side)
    feature, label = torch.rand_like(x), torch.arange(images) % max(1, classes)
    exact = copy.deepcopy(layer).double()
    loss = TeacherDecisionLoss(decision, implementation='reference')
    expected = results(exact, loss, x.double(), feature.double(), label)
    layer.implementation = implementation
    loss = TeacherDecisionLoss(decision, implementation=implementation)
    placed = [value.to(device) for value in (x, feature, label)]
    found = results(layer.to(device), loss.to(device), *placed)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_near(found[name], value, name)
    # Evaluation is the plain formula, at the same precision.
    with torch.no_grad():
        assert_near(layer.eval()(placed[0]).double().cpu(), exact.eval()(x.double()), 'evaluated')


@pytest.mark.parametrize('kind', KINDS)
def test_decisions(kind: str, device: str, tf32: bool) -> None:
    images, channels, side, templates, classes = KINDS[kind]
    decision: TeacherDecision = make_decision(templates, channels, classes, 'cpu')
    feature = torch.rand(images, channels, side, side)
    label = torch.arange(images) % classes if classes else None
    exact = decision.decide(feature.double(), label)
    found = decision.decide(feature.to(device), None if label is None else label.to(device))
    found = found.double().cpu()
    assert (found.argmax(1) == exact.argmax(1)).double().mean() > 0.999  # ties by rounding
    assert (found - exact).abs().mean() < 1e-5 * exact.abs().mean()


def features(device: str) -> list[tuple[Tensor, Tensor]]:
    """Classes that lie apart, each with patterns that lie apart: one fitting, whatever is rounded."""
    generator = torch.Generator().manual_seed(0)
    classes, patterns, channels = 6, 3, 16
    means = 10 * torch.randn(classes, 1, channels, generator=generator)
    means = means + 3 * torch.randn(classes, patterns, channels, generator=generator)
    labels = torch.arange(120) % classes
    places = torch.arange(9) % patterns
    maps = means[labels][:, places]
    maps = maps + 0.1 * torch.randn(maps.shape, generator=generator)
    maps = maps.transpose(1, 2).unflatten(2, (3, 3)).to(device)
    return list(zip(maps.split(32), labels.to(device).split(32)))


def test_fitting(device: str, tf32: bool) -> None:
    for fit in (
        lambda batches: fit_subclasses(batches, 6, 3, 5),
        lambda batches: fit_centroids(batches, 18),
    ):
        expected, found = fit(features('cpu')), fit(features(device))
        batch, labels = features('cpu')[0]
        for ours, theirs in zip(found.decide(batch, labels), expected.decide(batch, labels)):
            assert_near(ours, theirs, type(found).__name__, 1e-3)
        for name in ('centers', 'prototypes', 'decisions', 'centroids'):
            if getattr(expected, name, None) is not None:
                ours, theirs = (getattr(fitted, name) for fitted in (found, expected))
                assert_near(ours.cpu(), theirs, name, 1e-3)


def test_shapes_of_the_benchmark_are_more_than_one_tile() -> None:
    assert all(shape.templates >= 800 for shape in SHAPES.values())
