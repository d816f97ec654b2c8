"""Tokens as positions: layouts, values and gradients equal to those of the reshaped map."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models import KDLayerConnector, attach_kd_layers
from mmkdlayer.models.connectors.teacher_feature import TeacherFeature
from mmkdlayer.models.tokens import TokenLayout, TokenLayoutFinder, choose_output

CHANNELS = 6


class Block(nn.Module):
    def __init__(self, returns: Any = None) -> None:
        super().__init__()
        self.linear, self.returns = nn.Linear(CHANNELS, CHANNELS), returns

    def forward(self, x: Tensor, grid: Any = None) -> Any:
        x = self.linear(x)
        return x if self.returns is None else self.returns(x, grid)


class Vit(nn.Module):
    """Patches of 4x4 pixels, with extra tokens before them."""

    def __init__(self, extra: int = 0, returns: Any = None, says: str | None = None) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, CHANNELS, 4, 4)
        self.block = Block(returns)
        self.gives_grid = False
        if says == 'cls_token':
            self.cls_token = nn.Parameter(torch.zeros(1, 1, CHANNELS))
            self.register_tokens = nn.Parameter(torch.zeros(1, extra - 1, CHANNELS))
        elif says is not None:
            setattr(self, says, extra)
        self.extra = nn.Parameter(torch.randn(1, extra, CHANNELS))

    def tokens(self, images: Tensor) -> Tensor:
        patches = self.embed(images).flatten(2).transpose(1, 2)
        return torch.cat([self.extra.expand(len(images), -1, -1), patches], 1)

    def forward(self, images: Tensor) -> Any:
        tokens = self.tokens(images)
        if self.gives_grid:
            return self.block(tokens, (images.size(2) // 4, images.size(3) // 4))
        return self.block(tokens)


def attach(network: nn.Module, **options: Any) -> nn.Module:
    place = dict(module='block', in_channels=CHANNELS, num_templates=10)
    attach_kd_layers(network, dict(penult=dict(place, **options)))
    return network


def reference(layer: nn.Module, tokens: Tensor, extra: int, height: int, width: int) -> Tensor:
    """Position by position into a new map and back, with no view and no transposition."""
    images, length, channels = tokens.shape
    maps = torch.zeros(images, channels, height, width, dtype=tokens.dtype)
    for row in range(height):
        for column in range(width):
            maps[:, :, row, column] = tokens[:, extra + row * width + column]
    maps = layer(maps)
    parts = [tokens[:, i] for i in range(extra)]
    parts += [maps[:, :, row, column] for row in range(height) for column in range(width)]
    assert len(parts) == length
    return torch.stack(parts, 1)


@pytest.mark.parametrize('implementation', ['memory_efficient', 'reference'])
@pytest.mark.parametrize('says', ['num_extra_tokens', 'num_prefix_tokens', 'cls_token'])
@pytest.mark.parametrize('extra', [0, 1, 3])
def test_a_token_layer_is_the_layer_of_the_reshaped_map(extra, says, implementation):
    if says == 'cls_token' and extra == 0:
        says = None
    network = Vit(extra, says=says).double()
    attach(network, layer=dict(implementation=implementation)).double()
    plain = copy.deepcopy(network.kd_layers.penult)
    images = torch.randn(4, 3, 12, 20, dtype=torch.float64)
    weight = torch.randn(4, extra + 15, CHANNELS, dtype=torch.float64)
    out = network(images)
    (out * weight).sum().backward()

    tokens = network.block.linear(network.tokens(images)).detach().requires_grad_()
    expected = reference(plain, tokens, extra, 3, 5)
    (expected * weight).sum().backward()
    assert torch.allclose(out, expected, atol=1e-12)
    for (name, ours), theirs in zip(
        network.kd_layers.penult.named_parameters(), plain.parameters()
    ):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-10), name
    bias = network.block.linear.bias.grad
    assert torch.allclose(bias, tokens.grad.sum((0, 1)), atol=1e-10)


def test_positions_are_views_in_channels_last_order():
    tokens = torch.randn(2, 12, CHANNELS)
    layout = TokenLayout(0, 3, 4)
    maps = layout.to_map(tokens)
    assert maps.data_ptr() == tokens.data_ptr()
    assert maps.is_contiguous(memory_format=torch.channels_last)
    assert layout.to_tokens(maps, tokens).data_ptr() == tokens.data_ptr()


def returns_grid(x: Tensor, grid: Any) -> Any:
    return x, (2, 8)


@pytest.mark.parametrize(
    ('size', 'length', 'options', 'returns', 'given', 'expected'),
    [
        ((16, 16), 16, {}, None, False, (0, 4, 4)),
        ((8, 32), 16, {}, None, False, (0, 2, 8)),
        ((32, 8), 16, {}, None, False, (0, 8, 2)),
        ((18, 30), 28, {}, None, False, (0, 4, 7)),  # strides rounded down
        ((13, 17), 20, {}, None, False, (0, 4, 5)),  # and up
        ((16, 16), 17, dict(extra_tokens=1), None, False, (1, 4, 4)),
        ((16, 16), 17, dict(extra_tokens=1, grid=(2, 8)), None, False, (1, 2, 8)),
        ((16, 16), 16, dict(grid=[8, 2]), None, False, (0, 8, 2)),
        ((16, 16), 16, {}, returns_grid, False, (0, 2, 8)),
        ((16, 16), 12, {}, None, (3, 4), (0, 3, 4)),
    ],
)
def test_where_the_grid_comes_from(size, length, options, returns, given, expected):
    network = nn.Module()
    network.block = Block(returns)
    if 'grid' in options:
        options = dict(options, grid=tuple(options['grid']))
    finder = TokenLayoutFinder('place', network, 'block', **options)
    finder.note_image(0, network, (torch.zeros(1, 3, *size),), {})
    tokens = torch.randn(2, length, CHANNELS)
    output = network.block(tokens, given) if given else network.block(tokens)
    layout = finder.layout(choose_output(output, None, 'place', 'output_index'), output)
    assert (layout.extra, layout.height, layout.width) == expected


def test_the_grid_of_each_batch_is_its_own():
    network = attach(Vit(1, says='num_extra_tokens')).eval()
    for size in ((16, 16), (8, 32), (12, 4)):
        images = torch.randn(2, 3, *size)
        tokens = network.block.linear(network.tokens(images))
        expected = reference(network.kd_layers.penult, tokens, 1, size[0] // 4, size[1] // 4)
        assert torch.allclose(network(images), expected, atol=1e-6)


def test_what_stands_beside_the_tokens_stays():
    network = attach(Vit(returns=lambda x, grid: (x, grid)))
    network.gives_grid = True
    out, grid = network(torch.randn(2, 3, 8, 16))
    assert grid == (2, 4) and out.shape == (2, 8, CHANNELS)


def test_an_output_by_name():
    network = attach(Vit(returns=lambda x, grid: dict(last=x, first=1)), output_index='last')
    plain = Vit(returns=lambda x, grid: dict(last=x, first=1))
    plain.load_state_dict(network.state_dict(), strict=False)
    images = torch.randn(2, 3, 8, 8)
    out = network(images)
    assert set(out) == {'last', 'first'} and out['first'] == 1
    assert not torch.allclose(out['last'], plain(images)['last'])


def test_copies_and_pickles_find_their_own_layout():
    network = attach(Vit(1, says='num_extra_tokens')).eval()
    images = torch.randn(2, 3, 8, 16)
    network(torch.randn(2, 3, 16, 16))
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(other(images), network(images))


@pytest.mark.parametrize(
    ('network', 'options', 'message'),
    [
        (Vit(1), {}, r'returns 17 tokens of images 16x16; with 0 .* 17 left, and no grid.*such as '
                     r'extra_tokens=1, grid=\(4, 4\)'),
        (Vit(1), dict(extra_tokens=2), 'with 2 that are no positions there are 15 left'),
        (Vit(1), dict(extra_tokens=1, grid=(3, 4)), 'grid 3x4 there are 16 left, which does not fit'),
        (Vit(returns=lambda x, grid: x[:, 0]), {}, 'class token, has no positions'),
        (Vit(returns=lambda x, grid: dict(last=x)), {}, "output_index to one of 'last'"),
        (Vit(returns=lambda x, grid: dict(last=x)), dict(output_index='lost'), "is 'lost'"),
        (Vit(), dict(output_index='last'), r'returns one tensor, .* Take kd_layers.penult.output_index'),
        (Vit(), dict(in_channels=5), 'in_channels=6'),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_a_clear_error(network, options, message):
    attach(network, **options)
    with pytest.raises(ConfigError, match=message):
        network(torch.randn(2, 3, 16, 16))


def test_a_teachers_tokens_are_a_map():
    teacher = Vit(2, says='num_extra_tokens')
    feature = TeacherFeature('inter', 'block')
    feature.attach(teacher)
    images = torch.randn(2, 3, 8, 16)
    out = teacher(images)
    found = feature(out)
    assert found.shape == (2, CHANNELS, 2, 4)
    for row in range(2):
        for column in range(4):
            assert torch.equal(found[:, :, row, column], out[:, 2 + row * 4 + column])
    maps = torch.randn(2, 5, 3, 3)
    assert feature(maps) is maps


@pytest.mark.parametrize(
    ('output', 'index', 'message'),
    [
        (torch.randn(2, 17, 6), None, 'kd_layers.inter.teacher_extra_tokens'),
        (torch.randn(2, 6), None, r'returns \(2, 6\).*such as a class token'),
        ((torch.randn(1), torch.randn(1)), None, 'teacher_index to one of 0, 1'),
        ((torch.randn(1),), 3, 'teacher_index to one of 0'),
        (dict(last=torch.randn(1)), None, "teacher_index to one of 'last'"),
        ('text', None, 'returns a str'),
    ],
)
def test_what_a_teacher_returns_is_checked(output, index, message):
    feature = TeacherFeature('inter', 'block', index)
    feature.attach(Vit())
    feature.finder.note_image(0, None, (torch.zeros(1, 3, 16, 16),), {})
    with pytest.raises(ConfigError, match=message):
        feature(output)


def test_the_layer_is_fast_on_tokens_too(monkeypatch):
    runs = []
    original = KDLayerConnector._memory_efficient

    def counting(self, x):
        runs.append(SimpleNamespace(contiguous=x.is_contiguous(memory_format=torch.channels_last)))
        return original(self, x)

    monkeypatch.setattr(KDLayerConnector, '_memory_efficient', counting)
    attach(Vit())(torch.randn(2, 3, 16, 16))
    assert [run.contiguous for run in runs] == [True]


def test_a_channels_last_map_is_a_map_too():
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Linear(CHANNELS, CHANNELS)

        def forward(self, x: Tensor) -> Tensor:
            return self.block(x)

    network = attach(Last()).eval()
    x = torch.randn(2, 3, 5, CHANNELS)
    expected = network.kd_layers.penult(network.block.forward(x).permute(0, 3, 1, 2))
    assert torch.allclose(network(x), expected.permute(0, 2, 3, 1), atol=1e-6)
