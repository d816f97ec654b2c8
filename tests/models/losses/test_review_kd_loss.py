"""The hierarchical context loss against its formula, number by number."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmkdlayer.errors import ConfigError
from mmkdlayer.models import ReviewKDLoss

SHAPES = ((3, 8, 8), (4, 4, 4), (5, 2, 2))


def maps(dtype: torch.dtype = torch.float64, offset: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(offset)
    return [
        torch.randn(2, *shape, generator=generator, dtype=torch.float64).to(dtype)
        for shape in SHAPES
    ]


def with_pooled(features: list[Tensor]) -> list[Tensor]:
    return [*features, features[-1].mean((2, 3), keepdim=True)]


def mean_squared_error(a: Tensor, b: Tensor, cells: int) -> float:
    """Of cells x cells means of maps whose sides it divides."""
    total = count = 0
    step = a.size(2) // cells
    for n in range(a.size(0)):
        for c in range(a.size(1)):
            for y in range(cells):
                for x in range(cells):
                    cell = (n, c, slice(y * step, (y + 1) * step), slice(x * step, (x + 1) * step))
                    pair = [sum(v[cell].flatten().tolist()) / step**2 for v in (a, b)]
                    total += (pair[0] - pair[1]) ** 2
                    count += 1
    return total / count


def by_hand(student: list[Tensor], teacher: list[Tensor]) -> float:
    total = 0.0
    for s, t in zip(student, teacher):
        side = s.size(2)
        grids = [side] + [level for level in (4, 2, 1) if level < side]
        weights = [0.5**index for index in range(len(grids))]
        errors = [mean_squared_error(s, t, grid) for grid in grids]
        total += sum(w * e for w, e in zip(weights, errors)) / sum(weights)
    return total


def test_formula() -> None:
    student, teacher = with_pooled(maps()), maps(offset=1)
    student = [x.detach().requires_grad_() for x in student]
    teacher[0].requires_grad_()
    loss = ReviewKDLoss(loss_weight=5)(student, tuple(teacher))
    assert loss.item() == pytest.approx(5 * by_hand(student, with_pooled(teacher)), rel=1e-12)
    loss.backward()
    assert all(x.grad.abs().sum() > 0 for x in student) and teacher[0].grad is None


def test_half_precision_is_computed_in_float32() -> None:
    student = with_pooled(maps(torch.float16))
    teacher = [300 * x for x in maps(torch.float16, 1)]  # squares overflow in half
    with torch.autocast('cpu', torch.bfloat16):
        loss = ReviewKDLoss()(student, teacher)
    exact = by_hand([x.double() for x in student], with_pooled([x.double() for x in teacher]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact, rel=1e-3)  # the teacher is pooled in half


def test_maps_of_another_size_are_resized() -> None:
    student, teacher = with_pooled(maps()), maps(offset=1)
    smaller = [x[:, :, ::2, ::2] if x.size(2) == 8 else x for x in student]
    larger = [x.repeat_interleave(2, 2).repeat_interleave(2, 3) for x in smaller[:1]] + smaller[1:]
    loss = ReviewKDLoss()
    torch.testing.assert_close(loss(smaller, teacher), loss(larger, teacher))


def test_wrong_stages() -> None:
    student, teacher = maps(), maps(offset=1)
    with pytest.raises(ConfigError, match=r'\[3, 4, 5\] channels .* of \[3, 4, 5, 5\]'):
        ReviewKDLoss()(student, teacher)
    with pytest.raises(ConfigError, match='out_indices'):
        ReviewKDLoss()(with_pooled(student), teacher[2:])
