"""Fusion of stages against plain loops over positions and channels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models import ReviewKDConnector

SHAPES = ((2, 4, 4), (3, 2, 2))


def make() -> tuple[ReviewKDConnector, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    connector = ReviewKDConnector((2, 3), (4, 5), mid_channels=3).double().eval()
    for module in connector.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.normal_(module.bias)
    return connector, tuple(torch.randn(2, *shape, dtype=torch.float64) for shape in SHAPES)


def convolve(x: list, conv: nn.Conv2d) -> list:
    """A map as nested lists [channel][row][column] through a convolution that keeps its size."""
    height, width, reach = len(x[0]), len(x[0][0]), conv.kernel_size[0] // 2
    weight = conv.weight.tolist()
    bias = [0.0] * len(weight) if conv.bias is None else conv.bias.tolist()
    return [
        [
            [
                bias[o]
                + sum(
                    weight[o][i][dy + reach][dx + reach] * x[i][row + dy][column + dx]
                    for i in range(len(x))
                    for dy in range(-reach, reach + 1)
                    for dx in range(-reach, reach + 1)
                    if 0 <= row + dy < height and 0 <= column + dx < width
                )
                for column in range(width)
            ]
            for row in range(height)
        ]
        for o in range(len(weight))
    ]


def normalise(x: list, norm: nn.BatchNorm2d) -> list:
    mean, var, bias = norm.running_mean.tolist(), norm.running_var.tolist(), norm.bias.tolist()
    return [
        [[(v - mean[c]) / math.sqrt(var[c] + norm.eps) + bias[c] for v in row] for row in rows]
        for c, rows in enumerate(x)
    ]


def by_hand(connector: ReviewKDConnector, features: list[list]) -> list[list]:
    """One image: from the pooled stage to the shallowest."""
    last = features[-1]
    pooled = [[[sum(map(sum, rows)) / (len(rows) * len(rows[0]))]] for rows in last]
    fused, outputs = None, []
    for stage in (2, 1, 0):
        x = pooled if stage == 2 else features[stage]
        own = normalise(convolve(x, connector.reduce[stage][0]), connector.reduce[stage][1])
        if fused is not None:
            side, factor = len(own[0]), len(own[0]) // len(fused[0])
            deeper = [
                [[rows[y // factor][x // factor] for x in range(side)] for y in range(side)]
                for rows in fused
            ]
            weights = convolve(own + deeper, connector.attention[stage])
            own = [
                [
                    [
                        a / (1 + math.exp(-weights[0][y][x]))
                        + deeper[c][y][x] / (1 + math.exp(-weights[1][y][x]))
                        for x, a in enumerate(row)
                    ]
                    for y, row in enumerate(rows)
                ]
                for c, rows in enumerate(own)
            ]
        fused = own
        outputs.append(
            normalise(convolve(own, connector.expand[stage][0]), connector.expand[stage][1])
        )
    return outputs[::-1]


def test_formula() -> None:
    connector, features = make()
    found = connector(features)
    assert [tuple(x.shape) for x in found] == [(2, 4, 4, 4), (2, 5, 2, 2), (2, 5, 1, 1)]
    for image in range(2):
        expected = by_hand(connector, [x[image].tolist() for x in features])
        for ours, theirs in zip(found, expected):
            torch.testing.assert_close(ours[image], torch.tensor(theirs, dtype=torch.float64))


def test_every_parameter_is_trained() -> None:
    connector, features = make()
    connector.train()
    sum((x**2).sum() for x in connector(features)).backward()
    assert all(p.grad is not None and p.grad.any() for p in connector.parameters())


def test_errors() -> None:
    with pytest.raises(ConfigError, match='as many stages'):
        ReviewKDConnector((2, 3), (4,))
    connector, features = make()
    with pytest.raises(ConfigError, match='expected 2 stages.*has 1.*out_indices'):
        connector(features[1:])
