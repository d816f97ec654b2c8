"""Which layers are supervised by decisions, and what their shapes must be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Callable

import pytest
import torch

from mmkdlayer.engine.supervision import SupervisedLayer, check_shapes, find_supervised_layers
from mmkdlayer.errors import ConfigError, DecisionFileError
from mmkdlayer.models import CentroidDecision, TeacherDecisionLoss


def test_every_supervised_layer_of_a_distiller_is_found(
    make_distillation: Callable[..., torch.nn.Module],
) -> None:
    distiller = make_distillation().distiller
    found = find_supervised_layers(distiller)
    assert [layer.name for layer in found] == ['inter', 'penult']
    assert [layer.key for layer in found] == [
        'model.distiller.kd_layers.inter',
        'model.distiller.kd_layers.penult',
    ]
    for layer in found:
        assert layer.decision is distiller.distill_losses[f'loss_{layer.name}'].decision
        mapping = distiller.loss_forward_mappings[f'loss_{layer.name}']
        assert (layer.feature, layer.scores) == (mapping['teacher_feature'], mapping['scores'])


def some_distiller(**mapping: dict) -> SimpleNamespace:
    """A distiller that declares no KD layers, with one loss."""
    return SimpleNamespace(
        distill_losses={'loss_a': TeacherDecisionLoss(CentroidDecision(4))},
        loss_forward_mappings={'loss_a': mapping},
    )


def test_layer_of_another_distiller_is_named_by_its_loss() -> None:
    scores, feature = (dict(recorder=name) for name in 'sf')
    (layer,) = find_supervised_layers(some_distiller(scores=scores, teacher_feature=feature))
    assert (layer.name, layer.key) == ('a', 'model.distiller.distill_losses.loss_a')


def test_loss_without_its_inputs_is_an_error() -> None:
    distiller = some_distiller(scores=dict(recorder='s', from_student=True))
    with pytest.raises(ConfigError, match=r"\"loss_a\".*lacks \['teacher_feature'\]"):
        find_supervised_layers(distiller)


def test_two_losses_whose_decisions_would_be_one_file() -> None:
    inputs = dict(scores=dict(recorder='s'), teacher_feature=dict(recorder='f'))
    distiller = some_distiller(**inputs)
    distiller.distill_losses['a'] = TeacherDecisionLoss(CentroidDecision(4))
    distiller.loss_forward_mappings['a'] = inputs
    with pytest.raises(
        ConfigError, match='has "a" and "loss_a", whose decisions would be one file'
    ):
        find_supervised_layers(distiller)


@pytest.mark.parametrize(
    ('feature', 'scores', 'words'),
    [
        ((5, 4, 4), (3, 4, 4), r'the\.key\.decision: .*over 4 templates .* student has 3'),
        ((5, 1, 1), (4, 4, 4), r'the\.key\.teacher: .*\(1, 1\), smaller than .*\(4, 4\)'),
        ((5,), (4, 4, 4), r'the\.key: expected .* found \(5,\)'),
    ],
)
def test_shapes_that_do_not_fit(feature: tuple, scores: tuple, words: str) -> None:
    layer = SupervisedLayer('a', 'the.key', CentroidDecision(4), {}, {})
    check_shapes(layer, (5, 4, 4), (4, 4, 4))
    with pytest.raises(ConfigError, match=words):
        check_shapes(layer, feature, scores)


def test_fitted_decision_must_have_the_channels_of_the_teacher() -> None:
    decision = CentroidDecision.from_tables(torch.zeros(4, 6))
    layer = SupervisedLayer('a', 'the.key', decision, {}, {})
    check_shapes(layer, (6, 4, 4), (4, 4, 4))
    with pytest.raises(DecisionFileError, match=r'the\.key\.decision: .* 6 channels, .* have 5'):
        check_shapes(layer, (5, 4, 4), (4, 4, 4))
