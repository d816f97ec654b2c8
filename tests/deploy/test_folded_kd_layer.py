"""The folded KD layer against the layer's formula, written in plain loops in float64."""

from __future__ import annotations

import math

import pytest
import torch

from mmkdlayer.deploy import FoldedKDLayer, folded_kd_layer
from mmkdlayer.deploy.folded_kd_layer import fold_layer
from mmkdlayer.errors import ConfigError
from mmkdlayer.models import KDLayerConnector


def trained_layer(channels: int = 5, templates: int = 7, alpha: float = 0.7) -> KDLayerConnector:
    """A layer whose every part differs from its first value."""
    layer = KDLayerConnector(channels, templates, alpha=alpha, template_scale=2.5)
    with torch.no_grad():
        layer.semantics.scale.fill_(1.7)
        layer.bn.weight.uniform_(-1.0, 1.5)
        layer.bn.bias.normal_()
        layer.bn.running_mean.normal_()
        layer.bn.running_var.uniform_(0.5, 2)
    return layer.eval()


def oracle(layer: KDLayerConnector, x: torch.Tensor) -> torch.Tensor:
    """Section 1 of the method: one position after the other, one number after the other."""
    parts = {name: value.double() for name, value in layer.state_dict().items()}
    out = x.double().clone()

    def unit(vector: list[float]) -> list[float]:
        length = max(math.sqrt(sum(v * v for v in vector)), 1e-12)
        return [v / length for v in vector]

    kernels = [unit(kernel) for kernel in parts['templates.weight'].flatten(1).tolist()]
    meanings = [unit(meaning) for meaning in parts['semantics.weight'].flatten(1).tolist()]
    for image, row, column in torch.cartesian_prod(*map(torch.arange, (len(x), *x.shape[2:]))):
        region = unit(x[image, :, row, column].double().tolist())
        assigned = []
        for k, kernel in enumerate(kernels):
            score = parts['templates.scale'][0] * sum(a * b for a, b in zip(kernel, region))
            spread = math.sqrt(parts['bn.running_var'][k] + layer.bn.eps)
            score = (score - parts['bn.running_mean'][k]) / spread
            assigned.append(max(0.0, float(score * parts['bn.weight'][k] + parts['bn.bias'][k])))
        assigned = unit(assigned)
        for c, meaning in enumerate(meanings):
            value = parts['semantics.scale'][0] * sum(a * b for a, b in zip(meaning, assigned))
            out[image, c, row, column] += layer.alpha * value
    return out


@pytest.mark.parametrize(('channels', 'templates'), [(5, 7), (6, 3), (1, 1), (3, 40)])
@pytest.mark.parametrize('tiled', [False, True])
def test_it_gives_what_the_formula_says(channels, templates, tiled, monkeypatch):
    monkeypatch.setattr(folded_kd_layer, 'TILE', 1)
    monkeypatch.setattr(folded_kd_layer, 'MIN_TEMPLATES', 2)
    layer = trained_layer(channels, templates)
    x = torch.randn(2, channels, 3, 2)
    x[0, :, 1, 1] = 0  # a position without a direction
    with torch.set_grad_enabled(not tiled):
        found = fold_layer(layer)(x)
    expected = oracle(layer, x)
    assert (expected - x).abs().max() > 0.1
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found, layer(x), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize('tiled', [False, True])
def test_a_position_that_matches_nothing_stays_as_it_is(tiled):
    layer = FoldedKDLayer(2, 2)
    with torch.no_grad():
        layer.templates.weight.copy_(torch.eye(2)[:, :, None, None])
        layer.templates.bias.zero_()
    x = -torch.rand(1, 2, 2, 2) - 0.1
    x[0, 0, 0, 0] = 1.0
    with torch.set_grad_enabled(not tiled):
        out = layer(x)
    assert torch.equal(out[0, :, 1], x[0, :, 1])
    assert not torch.equal(out[0, :, 0, 0], x[0, :, 0, 0])


def test_gradients_are_those_of_the_layer(monkeypatch):
    monkeypatch.setattr(folded_kd_layer, 'TILE', 1)
    layer = trained_layer().double()
    folded = fold_layer(layer)
    grads = []
    for module in (layer, folded):
        torch.manual_seed(1)
        x = torch.randn(2, 5, 3, 3, dtype=torch.float64)
        x[1, :, 0, 0] = 0
        x.requires_grad_()
        module(x).square().sum().backward()
        grads.append(x.grad)
    assert torch.isfinite(grads[0]).all() and grads[0].abs().max() > 0.1
    torch.testing.assert_close(grads[1], grads[0])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
@pytest.mark.parametrize('grad', [False, True])
def test_other_precisions(dtype, grad):
    layer = trained_layer(8, 30)
    x = torch.randn(1, 8, 2, 2)
    expected = layer(x)
    folded = fold_layer(layer).to(dtype)
    with torch.set_grad_enabled(grad):
        out = folded(x.to(dtype))
    assert out.dtype == dtype
    tolerance = 0.1 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(out.float(), expected, atol=tolerance, rtol=tolerance)


def test_templates_that_no_input_can_match_are_left_out():
    layer = trained_layer(4, 6)
    reach = torch.tensor([1.0, 1.0, 0.2, 0.2, 3.0, 0.0])
    bias = torch.tensor([-0.9, -1.1, -0.1, -0.3, -2.0, 0.1])
    with torch.no_grad():
        layer.templates.scale.fill_(1)
        layer.bn.running_mean.zero_()
        layer.bn.running_var.fill_(1 - layer.bn.eps)
        layer.bn.weight.copy_(reach)
        layer.bn.bias.copy_(bias)
    folded = fold_layer(layer)
    kept = [0, 2, 4, 5]
    assert folded.num_templates == len(kept)
    torch.testing.assert_close(folded.templates.bias.detach(), bias[kept])
    # the inputs that match best, and others
    best = layer.templates.weight.detach().flatten(1).t().reshape(1, 4, 6, 1)
    x = torch.cat([best, torch.randn(1, 4, 6, 1)])
    torch.testing.assert_close(folded(x), layer(x), atol=1e-6, rtol=1e-6)


def test_a_layer_that_adds_nothing_is_none():
    assert fold_layer(trained_layer(alpha=0.0)) is None
    dead = trained_layer()
    dead.bn.bias.data.fill_(-1e3)
    assert fold_layer(dead) is None
    x = torch.randn(1, 5, 2, 2)
    assert torch.equal(dead(x), x)


def test_weights_that_are_not_finite_stay():
    layer = trained_layer()
    layer.bn.bias.data.fill_(1)
    layer.bn.bias.data[2] = float('nan')
    assert fold_layer(layer).num_templates == 7


def test_a_layer_that_depends_on_the_batch_is_refused():
    layer = trained_layer()
    layer.bn = torch.nn.BatchNorm2d(7, track_running_stats=False)
    with pytest.raises(ConfigError, match='no running statistics.*without --fold'):
        fold_layer(layer)


def test_what_tf32_changes(monkeypatch):
    """As on a GPU with torch's defaults: both factors of a convolution rounded to 10 bits."""
    plain = torch.nn.functional.conv2d

    def rounded(x: torch.Tensor) -> torch.Tensor:
        return ((x.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)

    layer = trained_layer(64, 800)
    x = torch.randn(4, 64, 7, 7)
    with torch.no_grad():
        values = fold_layer(layer)(x) - x
        monkeypatch.setattr(
            torch.nn.functional, 'conv2d', lambda x, w, *bias: plain(rounded(x), rounded(w), *bias)
        )
        error = (fold_layer(layer)(x) - x - values).abs().max() / values.abs().max()
    assert 1e-5 < error < 1e-3


def test_keeping_some_templates():
    layer = fold_layer(trained_layer())
    chosen = torch.arange(layer.num_templates) % 2 == 0
    kept = layer.keep(chosen)
    x = torch.randn(2, 5, 3, 3)
    torch.testing.assert_close(kept.match(x), layer.match(x)[:, chosen])
    layer.templates.bias.data[~chosen] = -1e3
    torch.testing.assert_close(kept(x), layer(x), atol=1e-6, rtol=1e-6)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match='num_templates must be a positive integer, but got 0'):
        FoldedKDLayer(4, 0)
    with pytest.raises(ConfigError, match=r'expected .* C=4, .* got \(1, 5, 2, 2\)'):
        FoldedKDLayer(4, 3)(torch.zeros(1, 5, 2, 2))
