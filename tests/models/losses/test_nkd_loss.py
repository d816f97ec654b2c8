"""Normalised knowledge distillation against its formula, class by class."""

from __future__ import annotations

import math

import pytest
import torch
from logit_cases import EDGES, check_edge, logits

from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.models import NKDLoss

LABELS = torch.tensor([0, 1, 4, 4, 2, 0])  # no image of class 3


def by_hand(student: torch.Tensor, teacher: torch.Tensor, gamma: float, tau: float) -> float:
    total = 0.0
    for z, y, t in zip(student.tolist(), teacher.tolist(), LABELS.tolist()):
        s_t = math.exp(z[t]) / sum(math.exp(v) for v in z)
        t_t = math.exp(y[t]) / sum(math.exp(v) for v in y)
        total -= t_t * math.log(s_t)
        others = [i for i in range(len(z)) if i != t]
        for i in others:
            s_i = math.exp(z[i] / tau) / sum(math.exp(z[j] / tau) for j in others)
            t_i = math.exp(y[i] / tau) / sum(math.exp(y[j] / tau) for j in others)
            total -= gamma * tau**2 * t_i * math.log(s_i)
    return total / len(student)


@pytest.mark.parametrize(('gamma', 'tau'), [(1.5, 1.0), (3.5, 3.0), (0.0, 2.0)])
def test_formula(gamma: float, tau: float) -> None:
    student, teacher = logits()
    loss = NKDLoss(gamma, tau, loss_weight=0.5)(student, teacher.requires_grad_(), LABELS)
    assert loss.item() == pytest.approx(0.5 * by_hand(student, teacher, gamma, tau), rel=1e-12)
    loss.backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None


def test_the_target_of_a_soft_label_is_its_largest_class() -> None:
    student, teacher = logits()
    soft = torch.full((6, 5), 0.1)
    soft[torch.arange(6), LABELS] = 0.6
    loss = NKDLoss()
    assert torch.equal(loss(student, teacher, soft), loss(student, teacher, LABELS))
    one_hot = torch.nn.functional.one_hot(LABELS, 5)
    assert torch.equal(loss(student, teacher, one_hot), loss(student, teacher, LABELS))


@pytest.mark.parametrize('kind', EDGES)
def test_edges(kind: str) -> None:
    labels = LABELS * (kind != 'one_class')
    value = check_edge(kind, lambda *x: NKDLoss(tau=2.0)(*x, labels))
    assert kind != 'one_class' or value == 0


@pytest.mark.parametrize(
    'labels', [torch.tensor([0, 1, 2, 3, 4, 5]), LABELS - 1, LABELS[:5], torch.rand(6, 4)]
)
def test_wrong_labels(labels: torch.Tensor) -> None:
    with pytest.raises(DataError, match='NKDLoss: '):
        NKDLoss()(*logits(), labels)


def test_wrong_logits() -> None:
    student, teacher = logits()
    with pytest.raises(ConfigError, match=r'\(6, 5\) and \(6, 4\)'):
        NKDLoss()(student, teacher[:, :4], LABELS)
