"""The KD layer against the formulas of the method, position by position in float64."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from mmengine.model import BaseModel, ModuleDict, revert_sync_batchnorm
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models import KDLayerConnector
from mmkdlayer.registry import MODELS

# (N, C, K, H, W)
SHAPES = [(2, 3, 4, 2, 3), (3, 5, 7, 1, 1), (1, 4, 2, 5, 1), (2, 6, 9, 3, 3), (2, 1, 3, 2, 2)]


def make_layer(channels: int, templates: int, dtype=torch.float64, **options) -> KDLayerConnector:
    """A layer in which every parameter differs from its start."""
    torch.manual_seed(channels + 10 * templates)
    layer = KDLayerConnector(channels, templates, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        layer.bn.running_mean.normal_()
        layer.bn.running_var.uniform_(0.5, 2)
    return layer.to(dtype)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Inner product of two unit vectors, with the method's eps."""

    def unit(vector: Tensor) -> Tensor:
        square = (vector * vector).sum()
        return vector / (square.sqrt() if square > 1e-24 else 1e-12)

    return (unit(first) * unit(second)).sum()


def oracle(layer: KDLayerConnector, x: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Output, scores and new running statistics by method.md, section 1, in plain loops."""
    p = dict(layer.named_parameters())
    images, channels, height, width = x.shape
    templates = layer.num_templates
    kernel = p['templates.weight'].flatten(1)
    semantics = p['semantics.weight'].flatten(1)
    positions = [x[n, :, h, w] for n in range(images) for h in range(height) for w in range(width)]
    scores = [
        [p['templates.scale'][0] * cosine(kernel[k], at) for k in range(templates)]
        for at in positions
    ]
    running = dict(mean=layer.bn.running_mean.clone(), var=layer.bn.running_var.clone())
    assigned = [[None] * templates for _ in positions]
    for k in range(templates):
        column = [row[k] for row in scores]
        if layer.training:
            mean = sum(column) / len(column)
            variance = sum((s - mean) ** 2 for s in column) / len(column)
            unbiased = variance.detach() * len(column) / (len(column) - 1)
            running['mean'][k] = 0.9 * running['mean'][k] + 0.1 * mean.detach()
            running['var'][k] = 0.9 * running['var'][k] + 0.1 * unbiased
        else:
            mean, variance = layer.bn.running_mean[k], layer.bn.running_var[k]
        for i, score in enumerate(column):
            normed = (score - mean) / (variance + 1e-5).sqrt()
            value = normed * p['bn.weight'][k] + p['bn.bias'][k]
            assigned[i][k] = value if value > 0 else value * 0
    out = []
    for at, row in zip(positions, assigned):
        row = torch.stack(row)
        added = [p['semantics.scale'][0] * cosine(semantics[c], row) for c in range(channels)]
        out.append(at + layer.alpha * torch.stack(added))

    def as_map(rows: list[Tensor]) -> Tensor:
        return torch.stack(rows).reshape(images, height, width, -1).permute(0, 3, 1, 2)

    return as_map(out), as_map([torch.stack(row) for row in scores]), running


def run(layer: KDLayerConnector, function, x: Tensor) -> dict[str, Tensor]:
    """Output, scores, statistics and all gradients of a loss on both output and scores."""
    layer.zero_grad()
    x = x.clone().requires_grad_()
    out, scores, running = function(layer, x)
    torch.manual_seed(3)
    weight_out = torch.randn(out.shape, dtype=torch.float64).to(out.dtype)
    weight_scores = torch.randn(scores.shape, dtype=torch.float64).to(out.dtype)
    ((out * weight_out).sum() + (scores * weight_scores).sum()).backward()
    found = dict(out=out, scores=scores, running_mean=running['mean'], running_var=running['var'])
    found.update({f'grad of {n}': p.grad.clone() for n, p in layer.named_parameters()})
    found['grad of x'] = x.grad
    return {name: value.detach().double() for name, value in found.items()}


def ours(layer: KDLayerConnector, x: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    scores = []
    handle = layer.templates.register_forward_hook(lambda module, args, out: scores.append(out))
    out = layer(x)
    handle.remove()
    return out, scores[0], dict(mean=layer.bn.running_mean, var=layer.bn.running_var)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(('dtype', 'scale'), [(torch.float32, 1.0), (torch.float64, 1e-5)])
@pytest.mark.parametrize('shape', SHAPES)
def test_forward_gradients_and_statistics_agree_with_the_formulas(shape, dtype, scale, training):
    images, channels, templates, height, width = shape
    layer = make_layer(channels, templates, alpha=0.7).train(training)
    x = torch.randn(images, channels, height, width, dtype=torch.float64)
    # Both get the same numbers: those that the dtype can hold.
    layer = layer.to(dtype)
    x = x.to(dtype)
    expected = run(copy.deepcopy(layer).double(), oracle, x.double())
    found = run(layer, ours, x)
    for name, value in expected.items():
        tolerance = scale * (1e-4 if name.startswith('grad') else 1e-5)
        size = max(1.0, float(value.abs().max()))
        torch.testing.assert_close(found[name], value, atol=tolerance * size, rtol=0, msg=name)


def test_gradients_agree_with_differences_of_the_formulas():
    layer = make_layer(2, 3)
    x = torch.randn(2, 2, 1, 2, dtype=torch.float64)
    weight = torch.randn(2, 2, 1, 2, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    (copy.deepcopy(layer)(leaf) * weight).sum().backward()

    @torch.no_grad()
    def value(at: Tensor) -> float:
        return float((oracle(layer, at)[0] * weight).sum())

    for index in range(x.numel()):
        step = torch.zeros(x.numel(), dtype=torch.float64)
        step[index] = 1e-6
        step = step.view_as(x)
        difference = (value(x + step) - value(x - step)) / 2e-6
        assert float(leaf.grad.flatten()[index]) == pytest.approx(difference, abs=1e-6)


@pytest.mark.parametrize('training', [True, False])
def test_a_position_that_is_zero_passes_only_the_shortcut(training):
    layer = make_layer(4, 6, torch.float32).train(training)
    x = torch.randn(2, 4, 3, 3)
    x[0, :, 1, 2] = 0
    x[1] = 0
    expected, scores, _ = oracle(copy.deepcopy(layer).double(), x.double())
    x.requires_grad_()
    out = layer(x)
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=0)
    assert torch.equal(scores[1], torch.zeros_like(scores[1]))
    upstream = torch.randn_like(out)
    out.backward(upstream)
    for name, parameter in layer.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
    assert torch.isfinite(x.grad).all()
    torch.testing.assert_close(x.grad[0, :, 1, 2], upstream[0, :, 1, 2], rtol=0, atol=0)
    torch.testing.assert_close(x.grad[1], upstream[1], rtol=0, atol=0)
    assert not torch.allclose(x.grad[0, :, 0, 0], upstream[0, :, 0, 0])


def test_scores_of_a_zero_position_give_no_gradient():
    layer = make_layer(4, 6, torch.float32)
    x = torch.randn(2, 4, 3, 3)
    x[0, :, 1, 1] = 0
    x.requires_grad_()
    layer.templates(x).square().sum().backward()
    assert torch.equal(x.grad[0, :, 1, 1], torch.zeros(4))
    assert x.grad[1].abs().sum() > 0


def test_where_no_template_fires_nothing_is_added_and_nothing_flows():
    layer = make_layer(4, 6, torch.float32)
    with torch.no_grad():
        layer.bn.bias.fill_(-50)
    x = torch.randn(2, 4, 3, 3, requires_grad=True)
    out = layer(x)
    assert torch.equal(out, x)
    upstream = torch.randn_like(out)
    out.backward(upstream)
    assert torch.equal(x.grad, upstream)
    for name, parameter in layer.named_parameters():
        assert torch.equal(parameter.grad, torch.zeros_like(parameter)), name


def test_where_some_positions_match_nothing_the_others_agree():
    layer = make_layer(3, 4)
    with torch.no_grad():
        layer.bn.bias.fill_(-1.2)
    x = torch.randn(2, 3, 4, 3, dtype=torch.float64)
    found, expected = run(copy.deepcopy(layer), ours, x), run(copy.deepcopy(layer), oracle, x)
    unmoved = (found['out'] == x).all(1)
    assert unmoved.any() and not unmoved.all()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-9, rtol=1e-9, msg=name)


def test_alpha_zero_feeds_nothing_forward_but_scores_learn():
    layer = KDLayerConnector(4, 6, alpha=0)
    x = torch.randn(2, 4, 3, 3)
    out, scores, _ = ours(layer, x)
    assert torch.equal(out, x)
    (out.sum() + scores.square().sum()).backward()
    assert layer.templates.weight.grad.abs().sum() > 0
    # In use and without effect: DDP must find a gradient, and it is zero.
    assert torch.equal(layer.semantics.weight.grad, torch.zeros(4, 6, 1, 1))


def test_bfloat16_autocast_is_close_to_float32():
    layer = make_layer(16, 24, torch.float32)
    x = torch.randn(4, 16, 5, 3)
    expected = run(copy.deepcopy(layer), ours, x)
    with torch.autocast('cpu', torch.bfloat16):
        found = run(copy.deepcopy(layer), ours, x)
        out, scores, _ = ours(layer, x)
        low, low_scores, _ = ours(layer, x.bfloat16())
    assert out.dtype == scores.dtype == low_scores.dtype == torch.float32
    assert low.dtype == torch.bfloat16
    for name, value in expected.items():
        difference = (found[name] - value).abs().max() / value.abs().max()
        assert difference < 0.05, (name, float(difference))


def test_norms_are_not_taken_in_half_precision():
    layer = KDLayerConnector(64, 4).eval()
    x = torch.full((1, 64, 2, 2), 300.0)  # the square of its length overflows float16
    assert torch.allclose(layer.templates(x), layer.templates(x / 100), atol=1e-5)
    with torch.autocast('cpu', torch.bfloat16):
        scores = layer.templates(x.bfloat16())
    assert torch.allclose(scores, layer.templates(x), atol=0.03)


def test_start_values():
    torch.manual_seed(0)
    layer = KDLayerConnector(200, 500)
    assert layer.templates.weight.shape == (500, 200, 1, 1)
    assert layer.semantics.weight.shape == (200, 500, 1, 1)
    for kernel, inputs in ((layer.templates.weight, 200), (layer.semantics.weight, 500)):
        assert float(kernel.detach().std()) == pytest.approx(math.sqrt(2 / inputs), rel=0.02)
        assert abs(float(kernel.detach().mean())) < 1e-3
    assert layer.templates.scale.tolist() == [3.0] and layer.semantics.scale.tolist() == [1.0]
    layer = KDLayerConnector(2, 3, template_scale=5, semantic_scale=0.5)
    assert layer.templates.scale.tolist() == [5.0] and layer.semantics.scale.tolist() == [0.5]


def test_init_weights_draws_anew_once():
    layer = KDLayerConnector(4, 6, template_scale=2.0)
    before = copy.deepcopy(layer.state_dict())
    with torch.no_grad():
        layer.templates.scale.fill_(9)
    layer.init_weights()
    after = copy.deepcopy(layer.state_dict())
    for name in ('templates.weight', 'semantics.weight'):
        assert not torch.equal(before[name], after[name])
    assert after['templates.scale'].tolist() == [2.0]
    layer.init_weights()
    assert all(torch.equal(after[name], value) for name, value in layer.state_dict().items())


def test_init_weights_of_a_model_reaches_the_layer_unless_it_was_loaded():
    class Model(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.kd_layers = ModuleDict(dict(one=KDLayerConnector(4, 6)))

        def forward(self) -> None:
            pass

    fresh, loaded = Model(), Model()
    loaded.kd_layers['one'].is_init = True
    for model, same in ((fresh, False), (loaded, True)):
        before = model.kd_layers['one'].templates.weight.clone()
        model.init_weights()
        assert torch.equal(before, model.kd_layers['one'].templates.weight) is same


def test_weights_that_init_cfg_names_are_kept(tmp_path):
    trained = make_layer(4, 6, torch.float32)
    file = tmp_path / 'layer.pth'
    torch.save(trained.state_dict(), file)
    layer = KDLayerConnector(4, 6, init_cfg=dict(type='Pretrained', checkpoint=str(file)))
    for _ in range(2):
        layer.init_weights()
        for name, value in trained.state_dict().items():
            assert torch.equal(layer.state_dict()[name], value), name


def test_state_dict_keys():
    assert list(KDLayerConnector(4, 6).state_dict()) == [
        'templates.weight',
        'templates.scale',
        'bn.weight',
        'bn.bias',
        'bn.running_mean',
        'bn.running_var',
        'bn.num_batches_tracked',
        'semantics.weight',
        'semantics.scale',
    ]


def test_sync_batch_norm_conversion_and_back():
    layer = make_layer(4, 6, torch.float32).eval()
    x = torch.randn(2, 4, 3, 3)
    expected, state = layer(x), copy.deepcopy(layer.state_dict())
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(layer)
    assert isinstance(converted.bn, nn.SyncBatchNorm)
    assert list(converted.state_dict()) == list(state)
    back = revert_sync_batchnorm(converted)
    assert not isinstance(back.bn, nn.SyncBatchNorm)
    torch.testing.assert_close(back.eval()(x), expected)


def test_copies_and_pickles():
    layer = make_layer(4, 6, torch.float32).eval()
    x = torch.randn(2, 4, 3, 3)
    expected = layer(x)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), expected)
        assert twin.templates.weight is not layer.templates.weight


def test_it_is_built_by_name():
    layer = MODELS.build(dict(type='mmkdlayer.KDLayerConnector', in_channels=4, num_templates=6))
    assert type(layer) is KDLayerConnector and layer.alpha == 1.0


@pytest.mark.parametrize('shape', [(2, 5, 3, 3), (2, 4), (4, 3, 3)])
def test_another_shape_is_an_error_that_names_both(shape):
    with pytest.raises(ConfigError, match=r'C=4.*\(' + ', '.join(map(str, shape)) + r'\).*in_chan'):
        KDLayerConnector(4, 6)(torch.zeros(shape))


@pytest.mark.parametrize('arguments', [(0, 6), (4, 0), (4, -1), (4.0, 6), ('4', 6)])
def test_sizes_must_be_positive_integers(arguments):
    with pytest.raises(ConfigError, match='positive integer'):
        KDLayerConnector(*arguments)


def test_a_model_in_half_precision_runs():
    dtype = torch.bfloat16  # torch 2.1 has no float16 convolution on the CPU
    layer = make_layer(16, 24, torch.float32).eval()
    x = torch.randn(2, 16, 3, 3)
    expected = layer(x)
    found = layer.to(dtype)(x.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)
