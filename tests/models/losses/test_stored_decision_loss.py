"""The loss of stored decisions against that of the teacher's features."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from filled_decisions import fill_decision
from made_up_store import rows_of_table
from torch import Tensor

from mmkdlayer.errors import ConfigError, UnfittedDecisionError
from mmkdlayer.models import CentroidDecision, SubclassDecision, TeacherDecisionLoss
from mmkdlayer.models.losses import StoredDecisionLoss

IMAGES, CHANNELS, CENTROIDS = 4, 5, 7


def inputs(templates: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, features and labels."""
    generator = torch.Generator().manual_seed(2)
    scores = torch.randn(IMAGES, templates, 3, 2, generator=generator)
    feature = torch.randn(IMAGES, CHANNELS, 3, 2, generator=generator)
    return scores, feature, torch.arange(IMAGES) % 3


def subclasses(classes: int = 3) -> tuple[SubclassDecision, dict[str, Tensor], tuple]:
    decision = SubclassDecision(classes, 2, 2)
    fill_decision(decision, CHANNELS)
    given = inputs(2 * classes)
    dense = decision.decide(*given[1:])
    rows = [rows_of_table(dense[i : i + 1], decision.decisions) for i in range(IMAGES)]
    return decision, dict(rows=torch.stack([torch.from_numpy(row) for row in rows])), given


def centroids(kept: int = CENTROIDS) -> tuple[CentroidDecision, dict[str, Tensor], tuple]:
    decision = CentroidDecision(CENTROIDS, temperature=0.3)
    fill_decision(decision, CHANNELS)
    given = inputs(CENTROIDS)
    known, index = decision.decide(given[1]).movedim(1, -1).topk(kept)
    return decision, dict(rows=index, probabilities=known), given


def loss_and_gradient(loss: Any, scores: Tensor, **reads: Any) -> tuple[Tensor, Tensor]:
    scores = scores.clone().requires_grad_()
    value = loss(scores, **reads)
    value.backward()
    return value.detach(), scores.grad


@pytest.mark.parametrize('implementation', ['memory_efficient', 'reference'])
@pytest.mark.parametrize('make', [subclasses, lambda: subclasses(600), centroids])
def test_equals_the_loss_of_the_teacher(make: Any, implementation: str) -> None:
    decision, stored, (scores, feature, label) = make()
    options = dict(loss_weight=0.5, implementation=implementation)
    live = TeacherDecisionLoss(decision, **options)
    reads = dict(teacher_feature=feature, gt_label=label)
    expected = loss_and_gradient(live, scores, **reads)
    found = loss_and_gradient(StoredDecisionLoss(decision, **options), scores, stored=stored)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_scores_of_half_precision() -> None:
    decision, stored, (scores, _, _) = centroids(3)
    loss = StoredDecisionLoss(decision)
    expected = loss_and_gradient(loss, scores.bfloat16().float(), stored=stored)
    value, gradient = loss_and_gradient(loss, scores.bfloat16(), stored=stored)
    assert value.dtype == torch.float32 and gradient.dtype == torch.bfloat16
    torch.testing.assert_close(value, expected[0])
    torch.testing.assert_close(gradient.float(), expected[1], rtol=1e-2, atol=1e-4)


def test_decides_as_the_teacher() -> None:
    decision, stored, (scores, feature, label) = subclasses()
    expected = decision.decide(feature, label)
    assert torch.equal(StoredDecisionLoss(decision).decide(scores, stored), expected)


def test_what_does_not_fit_is_refused() -> None:
    decision, stored, (scores, _, _) = subclasses()
    loss = StoredDecisionLoss(decision)
    with pytest.raises(ConfigError, match='expects scores'):
        loss(scores[:, 1:], stored)
    with pytest.raises(ConfigError, match='of 3x1 positions, but the stored decisions of 4 of 3x2'):
        loss(scores[..., :1], stored)
    with pytest.raises(ConfigError, match='needs stored decisions'):
        loss(scores)
    with pytest.raises(UnfittedDecisionError):
        StoredDecisionLoss(SubclassDecision(3, 2))(scores, stored)
