"""Targets of which the most probable templates are known, against dense ones made by loops."""

from __future__ import annotations

import math

import pytest
import torch
from made_up_store import loss_error
from torch import Tensor

from mmkdlayer.models.decisions.top_targets import TopTargets

TEMPLATES, POSITIONS = 9, 6


def distributions(sharpness: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(POSITIONS, TEMPLATES, generator=generator, dtype=torch.float64)
    return (sharpness * scores).softmax(1)


def spread(known: Tensor, index: Tensor) -> Tensor:
    """The dense targets, as the formula says."""
    dense = torch.empty(len(known), TEMPLATES, dtype=torch.float64)
    for row, (values, places) in enumerate(zip(known.tolist(), index.tolist())):
        rest = max(0.0, 1 - math.fsum(values))
        total = max(1.0, math.fsum(values)) if len(values) < TEMPLATES else math.fsum(values)
        for template in range(TEMPLATES):
            if template in places:
                dense[row, template] = values[places.index(template)] / total
            else:
                dense[row, template] = rest / (TEMPLATES - len(values))
    return dense


def divergence(target: Tensor, log_q: Tensor) -> float:
    pairs = zip(target.flatten().tolist(), log_q.flatten().tolist())
    return math.fsum(p * (math.log(p) - q) for p, q in pairs if p > 0)


@pytest.mark.parametrize('kept', [1, 3, TEMPLATES - 1, TEMPLATES])
@pytest.mark.parametrize('dtype', [torch.float64, torch.float16])
def test_equals_the_formula(kept: int, dtype: torch.dtype) -> None:
    known, index = distributions().topk(kept, dim=1)
    known = known.to(dtype).double()  # as it is stored
    targets = TopTargets(index, known, TEMPLATES)
    dense = spread(known, index)
    torch.testing.assert_close(dense.sum(1), torch.ones(POSITIONS, dtype=torch.float64))
    log_q = distributions(1.0).flip(0).log()
    for rows in (slice(0, POSITIONS), slice(2, 5)):
        grad = log_q[rows].exp()
        value = targets.divergence(rows, log_q[rows], grad=grad)
        assert float(value) == pytest.approx(divergence(dense[rows], log_q[rows]), abs=1e-12)
        torch.testing.assert_close(grad, log_q[rows].exp() - dense[rows])


def test_rounded_probabilities_above_one_are_scaled() -> None:
    known, index = torch.tensor([[0.7, 0.4]]), torch.tensor([[3, 1]])
    targets = TopTargets(index, known, TEMPLATES)
    dense = torch.zeros(1, TEMPLATES)
    targets.subtract_from(slice(0, 1), dense)
    assert dense[0, [3, 1]].tolist() == pytest.approx([-0.7 / 1.1, -0.4 / 1.1])
    assert int((dense != 0).sum()) == 2


@pytest.mark.parametrize('kept', [1, 2, 4, 8])
@pytest.mark.parametrize('scale', [0.5, 3.0, 8.0])
def test_the_stated_bound_holds(kept: int, scale: float) -> None:
    target = distributions(0.7)
    known, index = target.topk(kept, dim=1)
    rest = 1 - known.sum(1)
    scores = scale * torch.linspace(-1, 1, TEMPLATES, dtype=torch.float64).expand(POSITIONS, -1)
    log_q = scores.log_softmax(1)
    for position in range(POSITIONS):
        row = slice(position, position + 1)
        grad = log_q[row].exp()
        targets = TopTargets(index, known, TEMPLATES)
        found = float(targets.divergence(row, log_q[row], grad=grad))
        error = abs(found - divergence(target[row], log_q[row]))
        r = float(rest[position])
        assert error <= loss_error(r, 2 * scale, TEMPLATES) + 1e-12
        exact = log_q[row].exp() - target[row]
        assert float((grad - exact).abs().sum()) <= 2 * r + 1e-12
