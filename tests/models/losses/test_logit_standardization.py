"""Losses of standardised logits, against plain loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from logit_cases import EDGES, check_edge, logits

from mmkdlayer.errors import ConfigError
from mmkdlayer.models import LogitStandardization

pytest.importorskip('mmrazor', reason='it wraps losses of mmrazor')


def by_hand(rows: torch.Tensor) -> list[list[float]]:
    """(z - mean) / sqrt(1/C sum (z - mean)^2)"""
    found = []
    for row in rows.tolist():
        mean = sum(row) / len(row)
        deviation = math.sqrt(sum((z - mean) ** 2 for z in row) / len(row))
        found.append([(z - mean) / deviation for z in row])
    return found


def softmax(row: list[float], tau: float) -> list[float]:
    powers = [math.exp(z / tau) for z in row]
    return [power / sum(powers) for power in powers]


def kl_divergence(student: torch.Tensor, teacher: torch.Tensor, tau: float) -> float:
    """tau^2 * mean over images of KL(teacher || student)"""
    total = 0.0
    for ours, theirs in zip(by_hand(student), by_hand(teacher)):
        p, q = softmax(theirs, tau), softmax(ours, tau)
        total += sum(a * math.log(a / b) for a, b in zip(p, q))
    return tau**2 * total / len(student)


@pytest.mark.parametrize('tau', [1, 2, 4])
def test_kl_divergence_of_the_formula(tau: float) -> None:
    student, teacher = logits()
    loss = LogitStandardization(dict(type='mmrazor.KLDivergence', tau=tau, loss_weight=9))
    expected = 9 * kl_divergence(student, teacher, tau)
    found = loss(student, teacher).item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_scale_and_shift_of_either_network_do_not_count() -> None:
    student, teacher = logits()
    loss = LogitStandardization(dict(type='mmrazor.KLDivergence', tau=2))
    torch.testing.assert_close(
        loss(7 * student + 3, 0.5 * teacher - 2), loss(student, teacher), rtol=1e-5, atol=0
    )
    assert loss(4 * teacher + 1, teacher).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    'config',
    [
        dict(type='mmrazor.DKDLoss', tau=2, beta=8),
        dict(type='mmrazor.WSLD', tau=2, num_classes=5),
        dict(type='mmrazor.DISTLoss', tau=2),
        dict(type='mmrazor.KDSoftCELoss', tau=2),
    ],
    ids=lambda config: config['type'],
)
def test_other_losses_see_the_standardised_logits(config: dict) -> None:
    student, teacher = logits(dtype=torch.float32)
    loss = LogitStandardization(config)
    labels = (torch.arange(6) % 5,) if loss.needs_labels else ()
    found = loss(student, teacher, *labels)
    expected = loss.loss(*(torch.tensor(by_hand(x)) for x in (student, teacher)), *labels)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    found.sum().backward()
    assert student.grad.abs().sum() > 0
    assert not loss.state_dict()


@pytest.mark.parametrize('kind', EDGES)
def test_edges(kind: str) -> None:
    loss = LogitStandardization(dict(type='mmrazor.KLDivergence', tau=2))
    value = check_edge(kind, loss)
    assert kind != 'one_class' or value == 0


def test_errors_say_what_is_wrong() -> None:
    student, teacher = logits()
    plain = LogitStandardization(dict(type='mmrazor.KLDivergence'))
    with pytest.raises(ConfigError, match=r'\(6, 5\) and \(6, 4\)'):
        plain(student, teacher[:, :4])
    with pytest.raises(ConfigError, match='needs no gt_labels'):
        plain(student, teacher, torch.zeros(6, dtype=torch.long))
    with pytest.raises(ConfigError, match='DKDLoss needs gt_labels'):
        LogitStandardization(dict(type='mmrazor.DKDLoss'))(student, teacher)
    with pytest.raises(ConfigError, match='builds no loss'):
        LogitStandardization(dict(type='mmrazor.NoLoss'))
    with pytest.raises(ConfigError, match='feat_T'):
        LogitStandardization(dict(type='mmrazor.ActivationLoss'))
