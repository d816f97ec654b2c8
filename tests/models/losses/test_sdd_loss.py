"""Scale-decoupled distillation against its formula, cell by cell."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.models import NKDLoss, SDDLoss

IMAGES, CLASSES = 6, 3
LABELS = torch.tensor([0, 1, 1, 0, 0, 1])  # no image of class 2


def inputs(dtype: torch.dtype = torch.float64, classes: int = CLASSES) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = dict(
        feature_S=(IMAGES, 4, 4, 4),
        feature_T=(IMAGES, 5, 8, 4),
        weight_S=(classes, 4),
        weight_T=(classes, 5),
        bias_S=(classes,),
        bias_T=(classes,),
    )
    found = {
        key: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for key, shape in shapes.items()
    }
    return {key: x.requires_grad_(key.endswith('S')) for key, x in found.items()}


def softmax(z: list[float], tau: float) -> list[float]:
    return [math.exp(v / tau) / sum(math.exp(u / tau) for u in z) for v in z]


def cell_logits(feature: Tensor, weight: Tensor, bias: Tensor, scale: int, row: int, column: int):
    """Logits of one cell of one image's map (D, H, W), whose sides the scale divides."""
    depth, height, width = feature.shape
    rows, columns = height // scale, width // scale
    means = [
        sum(
            feature[d, y, x].item()
            for y in range(row * rows, (row + 1) * rows)
            for x in range(column * columns, (column + 1) * columns)
        )
        / (rows * columns)
        for d in range(depth)
    ]
    return [
        sum(w * m for w, m in zip(weights, means)) + b
        for weights, b in zip(weight.tolist(), bias.tolist())
    ]


def by_hand(
    x: dict[str, Tensor], tau: float, scales: tuple[int, ...], beta: float
) -> tuple[float, int]:
    """The loss, and the number of complementary cells."""
    total, cells, complementary = 0.0, 0, 0
    for n, target in enumerate(LABELS.tolist()):
        theirs = x['feature_T'][n], x['weight_T'], x['bias_T']
        whole = cell_logits(*theirs, 1, 0, 0)
        whole_is_right = whole.index(max(whole)) == target
        for scale in scales:
            for row in range(scale):
                for column in range(scale):
                    place = scale, row, column
                    z = cell_logits(x['feature_S'][n], x['weight_S'], x['bias_S'], *place)
                    y = cell_logits(*theirs, *place)
                    p, q = softmax(y, tau), softmax(z, tau)
                    divergence = tau**2 * sum(a * math.log(a / b) for a, b in zip(p, q))
                    differs = (y.index(max(y)) == target) != whole_is_right
                    total += (beta if differs else 1) * divergence
                    cells += 1
                    complementary += differs
    return total / cells, complementary


@pytest.mark.parametrize(('scales', 'beta'), [((1,), 2.0), ((1, 2), 2.0), ((1, 2, 4), 3.5)])
def test_formula(scales: tuple[int, ...], beta: float) -> None:
    x = inputs()
    loss = SDDLoss(3.0, scales, beta, loss_weight=0.9)(**x, gt_labels=LABELS)
    expected, complementary = by_hand(x, 3.0, scales, beta)
    assert loss.item() == pytest.approx(0.9 * expected, rel=1e-12)
    assert (complementary > 0) == (scales != (1,))
    loss.backward()
    assert all(x[f'{key}_S'].grad.abs().sum() > 0 for key in ('feature', 'weight', 'bias'))


def test_nkd_in_place_of_the_divergence() -> None:
    x, nkd = inputs(), dict(gamma=2.0, tau=3.0)
    logits = [x[f'feature_{i}'].mean((2, 3)) @ x[f'weight_{i}'].t() + x[f'bias_{i}'] for i in 'ST']
    found = SDDLoss(scales=(1,), nkd=nkd)(**x, gt_labels=LABELS)
    torch.testing.assert_close(found, NKDLoss(**nkd)(*logits, LABELS))
    cells = [
        SDDLoss()._cell_logits(x[f'feature_{i}'], x[f'weight_{i}'], x[f'bias_{i}']) for i in 'ST'
    ]
    labels = LABELS[:, None].expand(-1, 21).flatten()
    found = SDDLoss(beta=1, nkd=nkd)(**x, gt_labels=LABELS)
    torch.testing.assert_close(found, NKDLoss(**nkd)(*(c.flatten(0, 1) for c in cells), labels))


def test_soft_labels_and_no_bias() -> None:
    x = inputs()
    del x['bias_S'], x['bias_T']
    soft = torch.full((IMAGES, CLASSES), 0.2)
    soft[torch.arange(IMAGES), LABELS] = 0.6
    loss = SDDLoss()
    assert torch.equal(loss(**x, gt_labels=soft), loss(**x, gt_labels=LABELS))


@pytest.mark.parametrize('classes', [1, CLASSES])
def test_half_precision_and_one_class(classes: int) -> None:
    x = inputs(torch.float16, classes)
    labels = LABELS % classes
    with torch.autocast('cpu', torch.bfloat16):
        loss = SDDLoss()(**x, gt_labels=labels)
    exact = SDDLoss()(**{k: v.double() for k, v in x.items()}, gt_labels=labels)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-6)
    assert loss.dtype == torch.float32 and (classes > 1 or loss == 0)
    loss.backward()
    assert all(torch.isfinite(v.grad).all() for k, v in x.items() if k.endswith('S'))


def test_errors() -> None:
    x = inputs()
    for scales in ((), (2, 4), (1, 0), (1, 1.5)):
        with pytest.raises(ConfigError, match='the first is 1'):
            SDDLoss(scales=scales)
    with pytest.raises(ConfigError, match=r'\(6, 4, 4, 4\) and \(3, 5\)'):
        SDDLoss()(**{**x, 'weight_S': x['weight_T']}, gt_labels=LABELS)
    with pytest.raises(ConfigError, match='of 2 classes'):
        SDDLoss()(**{**x, 'weight_S': x['weight_S'][:2], 'bias_S': None}, gt_labels=LABELS)
    with pytest.raises(DataError, match='SDDLoss'):
        SDDLoss()(**x, gt_labels=LABELS + 2)
