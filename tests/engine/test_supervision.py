"""Which losses are supervised by decisions, and what their shapes must be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Callable

import pytest
import torch

from mmkdlayer.engine.supervision import Supervision, check_shapes, find_supervisions
from mmkdlayer.errors import ConfigError
from mmkdlayer.models import CentroidDecision, TeacherDecisionLoss


def test_every_decision_loss_of_a_distiller_is_found(
    make_distillation: Callable[..., torch.nn.Module],
) -> None:
    distiller = make_distillation().distiller
    found = find_supervisions(distiller)
    assert [s.name for s in found] == ['inter', 'penult']
    assert found[0].decision is distiller.distill_losses['loss_inter'].decision
    assert found[0].feature['recorder'] == 'inter'
    assert found[0].scores['recorder'] == 'inter_scores'


def test_loss_without_its_inputs_is_an_error() -> None:
    loss = TeacherDecisionLoss(CentroidDecision(4))
    distiller = SimpleNamespace(
        distill_losses={'loss_a': loss},
        loss_forward_mappings={'loss_a': dict(scores=dict(recorder='s', from_student=True))},
    )
    with pytest.raises(ConfigError, match=r"\"loss_a\".*lacks \['teacher_feature'\]"):
        find_supervisions(distiller)


@pytest.mark.parametrize(
    ('feature', 'scores', 'words'),
    [
        ((5, 4, 4), (3, 4, 4), '3 templates.*over 4'),
        ((5, 2, 4), (4, 4, 4), "2x4, smaller than the student's 4x4"),
        ((5,), (4, 4, 4), r'recorded \(5,\)'),
    ],
)
def test_shapes_that_do_not_fit(feature: tuple, scores: tuple, words: str) -> None:
    supervision = Supervision('a', TeacherDecisionLoss(CentroidDecision(4)), {}, {})
    check_shapes(supervision, (5, 4, 4), (4, 4, 4))
    with pytest.raises(ConfigError, match=words):
        check_shapes(supervision, feature, scores)
