"""The memory-efficient implementation gives the numbers of the plain formula."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models import KDLayerConnector
from mmkdlayer.models.connectors import kd_layer_connector, memory_efficient

SHAPES = [(2, 6, 5, 3, 4), (1, 4, 9, 1, 7), (3, 5, 40, 2, 2), (2, 16, 3, 3, 3)]


def make_pair(channels: int, templates: int) -> tuple[KDLayerConnector, KDLayerConnector]:
    reference = KDLayerConnector(
        channels, templates, alpha=0.7, implementation='reference'
    ).double()
    nn.init.uniform_(reference.bn.weight, 0.5, 1.5)
    nn.init.normal_(reference.bn.bias, std=0.5)
    tiled = copy.deepcopy(reference)
    tiled.implementation = 'memory_efficient'
    return reference, tiled


def gradients(layer: KDLayerConnector, x: Tensor, upstream: Tensor) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    layer(x).backward(upstream)
    found = {name: parameter.grad for name, parameter in layer.named_parameters()}
    return {**found, 'x': x.grad}  # type: ignore[dict-item]


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('tile', [1, 4, 256])
def test_equals_the_plain_formula(
    shape: tuple, training: bool, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_efficient, 'TILE_MULTIPLE', tile)
    monkeypatch.setattr(memory_efficient, 'TILE', 1)
    images, channels, templates, height, width = shape
    reference, tiled = make_pair(channels, templates)
    for layer in (reference, tiled):
        layer.bn.train(training)
    x = torch.randn(images, channels, height, width, dtype=torch.float64)
    x[0, :, 0, 0] = 0
    torch.testing.assert_close(tiled(x), reference(x), rtol=1e-10, atol=1e-12)
    upstream = torch.randn_like(x)
    expected = gradients(reference, x, upstream)
    for name, found in gradients(tiled, x, upstream).items():
        torch.testing.assert_close(found, expected[name], rtol=1e-8, atol=1e-10)
    for name, buffer in tiled.named_buffers():
        torch.testing.assert_close(buffer, dict(reference.named_buffers())[name])


@pytest.mark.parametrize(
    ('positions', 'templates', 'width'),
    [(1568, 4096, 448), (6272, 4096, 384), (12544, 800, 192), (4096, 800, 192), (8, 200, 200)],
)
def test_a_tile_fits_the_cache_unless_its_products_would_be_slow(
    positions: int, templates: int, width: int
) -> None:
    groups = memory_efficient._groups(torch.empty(positions, templates))
    parts = [part for part, tiles in groups if tiles == [part]]
    starts = range(0, templates, width)
    assert parts == [slice(start, min(start + width, templates)) for start in starts]


def test_gradcheck() -> None:
    _, tiled = make_pair(3, 6)
    tiled.bn.momentum = 0.0  # the function must be the same at each call
    x = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(tiled, (x,))


def test_stores_no_other_tensor_with_k_channels() -> None:
    """Of all tensors that the forward pass keeps, only the scores are as large as they are."""
    sizes: list[int] = []
    layer = KDLayerConnector(4, 64)
    x = torch.randn(2, 4, 5, 5, requires_grad=True)

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.untyped_storage().data_ptr() if tensor.numel() >= 2 * 64 * 25 else 0)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(x)
    assert len({pointer for pointer in sizes if pointer}) == 1


def test_other_norms_take_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError('the memory-efficient way was taken')

    monkeypatch.setattr(memory_efficient.MemoryEfficientMatch, '__call__', refuse)
    x = torch.randn(2, 4, 3, 3)
    layer = KDLayerConnector(4, 8)
    with pytest.raises(AssertionError, match='memory-efficient way'):
        layer(x)
    with torch.no_grad():
        layer(x)
    layer.eval()(x)
    layer.train()
    layer.bn.momentum = None  # type: ignore[assignment]
    layer(x)
    KDLayerConnector(4, 8, implementation='reference')(x)


def test_synchronised_norms_take_the_plain_way_and_say_so_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(kd_layer_connector, 'print_log', lambda text, **kwargs: said.append(text))
    kd_layer_connector._say_that_synchronised_norms_cost_memory.cache_clear()
    for implementation in ('reference', 'memory_efficient', 'memory_efficient'):
        layer = KDLayerConnector(4, 8, implementation=implementation)
        plain = copy.deepcopy(layer)
        layer = nn.SyncBatchNorm.convert_sync_batchnorm(layer)
        x = torch.randn(2, 4, 3, 3)
        torch.testing.assert_close(layer(x), plain(x))
    assert len(said) == 1 and 'only the plain formula' in said[0]


def test_hooks_on_the_children_are_called() -> None:
    x = torch.randn(2, 4, 3, 3)
    layer = KDLayerConnector(4, 8)
    found: list[tuple] = []
    for child in (layer.bn, layer.semantics):
        handle = child.register_forward_hook(lambda m, args, out: found.append(tuple(out.shape)))
        layer(x)
        handle.remove()
    assert found == [(2, 8, 3, 3), (2, 4, 3, 3)]


def test_an_empty_batch() -> None:
    assert KDLayerConnector(4, 8).eval()(torch.randn(0, 4, 3, 3)).shape == (0, 4, 3, 3)


def test_small_batches_take_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    compute = memory_efficient.MemoryEfficientMatch.__call__
    monkeypatch.setattr(
        memory_efficient.MemoryEfficientMatch,
        '__call__',
        lambda *args: taken.append(len(args[2])) or compute(*args),
    )
    monkeypatch.setattr(memory_efficient, 'MIN_SCORES', 2 * 9 * 8)
    for images in (1, 2, 3):
        KDLayerConnector(4, 8)(torch.randn(images, 4, 3, 3))
    assert taken == [2, 3]


def test_second_derivative_is_refused() -> None:
    x = torch.randn(2, 4, 3, 3, requires_grad=True)
    with pytest.raises(RuntimeError, match='no second derivative'):
        torch.autograd.grad(KDLayerConnector(4, 8)(x).sum(), x, create_graph=True)


def test_unknown_implementation() -> None:
    with pytest.raises(
        ConfigError, match="'memory_efficient', 'triton' or 'reference', but got 'fast'"
    ):
        KDLayerConnector(4, 8, implementation='fast')
