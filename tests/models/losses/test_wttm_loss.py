"""Weighted transformed teacher matching against its formula, class by class."""

from __future__ import annotations

import math

import pytest
import torch
from logit_cases import EDGES, check_edge, logits

from mmkdlayer.errors import ConfigError
from mmkdlayer.models import WTTMLoss


def by_hand(student: torch.Tensor, teacher: torch.Tensor, gamma: float) -> float:
    total = 0.0
    for z, y in zip(student.tolist(), teacher.tolist()):
        q = [math.exp(v) / sum(math.exp(u) for u in z) for v in z]
        p = [math.exp(v) / sum(math.exp(u) for u in y) for v in y]
        power_sum = sum(v**gamma for v in p)
        transformed = [v**gamma / power_sum for v in p]
        total += power_sum * sum(a * math.log(a / b) for a, b in zip(transformed, q))
    return total / len(student)


@pytest.mark.parametrize('gamma', [0.1, 0.5, 1.0, 2.0])
def test_formula(gamma: float) -> None:
    student, teacher = logits()
    loss = WTTMLoss(gamma, loss_weight=4)(student, teacher.requires_grad_())
    assert loss.item() == pytest.approx(4 * by_hand(student, teacher, gamma), rel=1e-12)
    loss.backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None


def test_gamma_of_one_is_the_divergence() -> None:
    student, teacher = logits()
    expected = torch.nn.functional.kl_div(
        student.log_softmax(1), teacher.softmax(1), reduction='batchmean'
    )
    torch.testing.assert_close(WTTMLoss(1.0)(student, teacher), expected)


@pytest.mark.parametrize('kind', EDGES)
def test_edges(kind: str) -> None:
    value = check_edge(kind, WTTMLoss(0.5))
    assert kind != 'one_class' or value == 0


def test_errors() -> None:
    student, teacher = logits()
    with pytest.raises(ConfigError, match='gamma must be above 0'):
        WTTMLoss(0)
    with pytest.raises(ConfigError, match=r'\(6, 5\) and \(5, 5\)'):
        WTTMLoss()(student, teacher[:5])
