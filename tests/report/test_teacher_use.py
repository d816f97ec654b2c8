"""What the teacher says about positions and how the student agrees, compared with plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from filled_decisions import fill_decision

from mmkdlayer.models import CentroidDecision, SubclassDecision
from mmkdlayer.report.teacher_use import Agreement, TeacherUse, vocabulary_distances

CLASSES, SUBCLASSES, CHANNELS = 3, 2, 5
SIZE = (2, 3)


def make(kind: str) -> CentroidDecision | SubclassDecision:
    decision = (
        CentroidDecision(4, temperature=0.1)
        if kind == 'centroids'
        else SubclassDecision(CLASSES, SUBCLASSES, num_components=2)
    )
    fill_decision(decision, CHANNELS)
    return decision


@pytest.mark.parametrize('kind', ['centroids', 'subclasses'])
def test_the_nearest_entry_is_that_of_loops(kind: str) -> None:
    decision = make(kind)
    feature, labels = torch.randn(4, CHANNELS, *SIZE), torch.tensor([0, 2, 1, 2])
    needed = labels if decision.needs_labels else None
    use = TeacherUse(decision, CLASSES)
    distances = vocabulary_distances(decision, feature, SIZE, needed)
    found = use.add(distances, np.arange(4), labels.numpy())
    for n, row, column in np.ndindex(4, *SIZE):
        f = feature[n, :, row, column].double()
        if isinstance(decision, CentroidDecision):
            squares = [float(((f - c.double()) ** 2).sum()) for c in decision.centroids]
            expected = int(np.argmin(squares))
        else:
            z = decision.projection.double() @ f + decision.offset.double()
            own = range(int(labels[n]) * SUBCLASSES, (int(labels[n]) + 1) * SUBCLASSES)
            squares = [float(((z - decision.centers[a].double()) ** 2).sum()) for a in own]
            expected = own[int(np.argmin(squares))]
        assert found[n, row, column] == expected
    assert use.vocabulary.counts.sum() == found.size


def test_a_larger_map_of_the_teacher_is_pooled() -> None:
    decision = make('centroids')
    feature = torch.randn(2, CHANNELS, 4, 6)
    pooled = torch.nn.functional.avg_pool2d(feature, 2)
    found = vocabulary_distances(decision, feature, SIZE, None)
    torch.testing.assert_close(found, vocabulary_distances(decision, pooled, SIZE, None))


def test_the_agreement_is_that_of_loops() -> None:
    decision = make('subclasses')
    labels = np.array([0, 2, 1, 2])
    scores = torch.randn(4, CLASSES * SUBCLASSES, *SIZE)
    target = decision.decide(torch.randn(4, CHANNELS, *SIZE), torch.tensor(labels), SIZE)
    found = Agreement(decision, CLASSES)
    found.add(scores[:3], target[:3], np.array([0, -1, 1]))  # the second has no label
    student, teacher = found.add(scores[3:], target[3:], labels[3:])
    assert student.shape == teacher.shape == (1, *SIZE)
    hits, class_hits, divergence, by_class = 0, 0, 0.0, np.zeros((CLASSES, 2), int)
    for n, row, column in np.ndindex(4, *SIZE):
        s, p = scores[n, :, row, column].double(), target[n, :, row, column].double()
        q = torch.exp(s) / torch.exp(s).sum()
        own, other = int(s.argmax()), int(p.argmax())
        hits += own == other
        class_hits += own // SUBCLASSES == other // SUBCLASSES
        divergence += sum(float(a) * math.log(a / b) for a, b in zip(p, q) if a > 0)
        if n != 1:
            by_class[labels[n]] += (own == other, 1)
    assert (found.hits, found.class_hits, found.positions) == (hits, class_hits, 4 * 6)
    assert found.divergence == pytest.approx(divergence, rel=1e-5)
    assert (found.by_class == by_class).all()
    assert found.by_place is not None and found.by_place[0].sum() == hits
    assert found.share() == hits / 24
