"""How many products of M*K*C layer and loss take: six, and one for the distances to centroids."""

from __future__ import annotations

from typing import Any

import launches
import pytest
import torch
from simulated_cuda.device import skip_with_old_torch
from torch.utils.flop_counter import FlopCounterMode

from mmkdlayer.models import CentroidDecision, KDLayerConnector, TeacherDecisionLoss, ops
from mmkdlayer.models.connectors import memory_efficient

IMAGES, CHANNELS, SIDE, TEMPLATES = 16, 8, 8, 256


def in_place(total: Any, rows: tuple, columns: tuple, **options: Any) -> int:
    """Of the shapes of ``total.addmm_(rows, columns)``."""
    return 2 * rows[0] * rows[1] * columns[1]


def counter() -> FlopCounterMode:
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: in_place})


@pytest.mark.parametrize('implementation', ['memory_efficient', 'triton', 'reference'])
@pytest.mark.parametrize('name', sorted(launches.ALL_SHAPES))
def test_on_a_gpu(name: str, implementation: str) -> None:
    skip_with_old_torch()
    if implementation == 'triton':
        pytest.importorskip('triton')
    shape = launches.ALL_SHAPES[name]
    with counter() as counted:
        launches.count(shape, implementation)
    positions, channels, templates = shape.images * shape.side**2, shape.channels, shape.templates
    expected = (6 if shape.classes else 7) * 2 * positions * channels * templates
    if shape.classes:  # projected, and compared with the sub-classes of one class
        components = min(60, channels)
        expected += 2 * positions * components * (channels + templates // shape.classes)
    assert counted.get_total_flops() == expected


@pytest.mark.parametrize('by_convolution', [False, True])
@pytest.mark.parametrize('tile', [memory_efficient.TILE, 1])
def test_on_a_cpu(tile: int, by_convolution: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_efficient, 'TILE', tile)
    monkeypatch.setattr(ops, '_convolutions_are_faster', lambda: by_convolution)
    decision = CentroidDecision.from_tables(torch.randn(TEMPLATES, CHANNELS))
    layer, loss = KDLayerConnector(CHANNELS, TEMPLATES), TeacherDecisionLoss(decision)
    scores = []
    layer.templates.register_forward_hook(lambda module, args, out: scores.append(out))
    x, feature = torch.randn(2, IMAGES, CHANNELS, SIDE, SIDE).requires_grad_()
    with counter() as counted:
        output = layer(x)
        (loss(scores[0], feature.detach(), None) + output.sum()).backward()
    assert scores[0].numel() >= memory_efficient.MIN_SCORES
    assert counted.get_total_flops() == 7 * 2 * IMAGES * SIDE**2 * CHANNELS * TEMPLATES
