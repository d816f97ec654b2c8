"""The loss and its gradient against the KL divergence in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError, DataError, UnfittedDecisionError
from mmkdlayer.models import (
    CentroidDecision,
    SubclassDecision,
    TeacherDecision,
    TeacherDecisionLoss,
)
from mmkdlayer.models.losses import teacher_decision_loss
from mmkdlayer.models.ops import rows_of
from mmkdlayer.registry import MODELS

CHANNELS, CLASSES, SUBCLASSES = 4, 3, 2


def make_decision(kind: str) -> TeacherDecision:
    torch.manual_seed(0)
    if kind == 'centroid':
        return CentroidDecision.from_tables(torch.randn(7, CHANNELS), temperature=0.6)
    size = CLASSES * SUBCLASSES
    table = torch.eye(size, dtype=torch.float64)  # rows with zeros: 0 log 0 = 0
    table[1:4] = torch.rand(3, size, dtype=torch.float64)
    table = table / table.sum(1, keepdim=True)
    return SubclassDecision.from_tables(
        torch.randn(2, CHANNELS, dtype=torch.float64),
        torch.randn(2, dtype=torch.float64),
        torch.randn(size, 2, dtype=torch.float64),
        table.to_sparse() if kind == 'sparse' else table,
        CLASSES,
    )


def make_inputs(kind: str, dtype=torch.float32, images=5, full=(3, 4), size=(3, 4)):
    """Decision, scores, teacher feature and label."""
    decision = make_decision(kind.replace('soft', 'subclass'))
    scores = 2 * torch.randn(images, decision.num_templates, *size, dtype=dtype)
    feature = torch.randn(images, CHANNELS, *full, dtype=dtype)
    label = torch.arange(images) % CLASSES
    if kind == 'soft':
        label = torch.rand(images, CLASSES, dtype=dtype).softmax(1)
    return decision, scores, feature, label


def oracle(target: Tensor, scores: Tensor) -> tuple[float, Tensor]:
    """Mean KL(target || softmax(scores)) over positions, and its gradient, in plain loops."""
    images, templates, height, width = scores.shape
    total, grad = 0.0, torch.zeros(scores.shape, dtype=torch.float64)
    for n in range(images):
        for h in range(height):
            for w in range(width):
                row = scores[n, :, h, w].double().tolist()
                partition = math.fsum(math.exp(score) for score in row)
                for k, (p, score) in enumerate(zip(target[n, :, h, w].double().tolist(), row)):
                    q = math.exp(score) / partition
                    total += p * (math.log(p) - math.log(q)) if p > 0 else 0.0
                    grad[n, k, h, w] = q - p
    positions = images * height * width
    return total / positions, grad / positions


def run(loss: TeacherDecisionLoss, scores: Tensor, *args: Tensor) -> tuple[Tensor, Tensor]:
    leaf = scores.clone().requires_grad_()
    value = loss(leaf, *args)
    value.backward()
    return value.detach(), leaf.grad


KINDS = ['centroid', 'subclass', 'sparse', 'soft']


@pytest.mark.parametrize('size', [(3, 4), (1, 1), (2, 3)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('kind', KINDS)
def test_value_and_gradient_agree_with_the_divergence(kind, dtype, size):
    decision, scores, feature, label = make_inputs(kind, dtype, size=size)
    target = decision.decide(feature.double(), label, size=size)
    expected, expected_grad = oracle(target, scores)
    loss = TeacherDecisionLoss(decision)
    value, grad = run(loss, scores, feature, label)
    assert value.dtype == grad.dtype == dtype and value.dim() == 0
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert float(value) == pytest.approx(expected, abs=tolerance, rel=tolerance)
    torch.testing.assert_close(grad.double(), expected_grad, atol=tolerance, rtol=0)


@pytest.mark.parametrize('kind', KINDS)
def test_gradcheck(kind):
    decision, scores, feature, label = make_inputs(kind, torch.float64, images=2, size=(1, 2))
    loss = TeacherDecisionLoss(decision, loss_weight=0.7)
    assert torch.autograd.gradcheck(lambda s: loss(s, feature, label), scores.requires_grad_())


@pytest.mark.parametrize('chunk', [1, 20, 100])
@pytest.mark.parametrize('kind', KINDS)
def test_chunks_change_nothing(kind, chunk, monkeypatch):
    decision, *inputs = make_inputs(kind, torch.float64)
    loss = TeacherDecisionLoss(decision)
    expected = run(loss, *inputs)
    monkeypatch.setattr(teacher_decision_loss, 'CHUNK', chunk)
    assert len(teacher_decision_loss._chunks(rows_of(inputs[0]))) > 1
    for value, other in zip(run(loss, *inputs), expected):
        torch.testing.assert_close(value, other, atol=1e-12, rtol=1e-12)


def test_equal_distributions_cost_nothing():
    decision, _, feature, label = make_inputs('centroid', torch.float64)
    scores = decision.decide(feature).log() + 3.0
    value, grad = run(TeacherDecisionLoss(decision), scores, feature, label)
    assert float(value) == pytest.approx(0, abs=1e-12)
    assert grad.abs().max() < 1e-12


def test_loss_weight_scales_value_and_gradient():
    decision, *inputs = make_inputs('subclass')
    value, grad = run(TeacherDecisionLoss(decision), *inputs)
    weighted, weighted_grad = run(TeacherDecisionLoss(decision, loss_weight=2.5), *inputs)
    torch.testing.assert_close(weighted, 2.5 * value)
    torch.testing.assert_close(weighted_grad, 2.5 * grad)


def test_gradient_is_scaled_by_what_follows():
    decision, scores, feature, label = make_inputs('subclass')
    _, grad = run(TeacherDecisionLoss(decision), scores, feature, label)
    leaf = scores.clone().requires_grad_()
    (TeacherDecisionLoss(decision)(leaf, feature, label) * 1024).backward()
    torch.testing.assert_close(leaf.grad, 1024 * grad)


def test_scores_in_bfloat16():
    decision, scores, feature, label = make_inputs('centroid')
    scores, feature = scores.bfloat16(), feature.bfloat16()
    loss = TeacherDecisionLoss(decision)
    expected, expected_grad = run(loss, scores.float(), feature.float())
    value, grad = run(loss, scores, feature)
    assert value.dtype == torch.float32 and grad.dtype == torch.bfloat16
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(grad.float(), expected_grad, atol=1e-4, rtol=1e-2)


@pytest.mark.parametrize('kind', KINDS)
def test_autocast_changes_nothing(kind):
    decision, *inputs = make_inputs(kind)
    expected = run(TeacherDecisionLoss(decision), *inputs)
    with torch.autocast('cpu', torch.bfloat16):
        found = run(TeacherDecisionLoss(decision), *inputs)
    for value, other in zip(found, expected):
        assert torch.equal(value, other)


def test_pooling_is_in_float32_for_teachers_in_half_precision():
    decision = make_decision('centroid')
    feature = 20 + torch.randn(2, CHANNELS, 8, 8).bfloat16()
    scores = torch.randn(2, 7, 1, 1)
    expected, _ = run(TeacherDecisionLoss(decision), scores, feature.float())
    value, _ = run(TeacherDecisionLoss(decision), scores, feature)
    torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5)


def test_large_scores_stay_finite():
    decision, scores, feature, label = make_inputs('subclass')
    value, grad = run(TeacherDecisionLoss(decision), 1e4 * scores, feature, label)
    assert torch.isfinite(value) and torch.isfinite(grad).all()


@pytest.mark.parametrize('kind', KINDS)
def test_the_teacher_gets_no_gradient(kind):
    decision, scores, feature, label = make_inputs(kind)
    feature.requires_grad_()
    scores.requires_grad_()
    TeacherDecisionLoss(decision)(scores, feature, label).backward()
    assert feature.grad is None and scores.grad is not None


def test_without_gradients_the_value_is_the_same():
    decision, *inputs = make_inputs('subclass')
    loss = TeacherDecisionLoss(decision)
    with torch.no_grad():
        value = loss(*inputs)
    assert not value.requires_grad
    assert torch.equal(value, run(loss, *inputs)[0])


def test_backward_twice_through_a_kept_graph():
    decision, scores, feature, label = make_inputs('subclass')
    leaf = scores.clone().requires_grad_()
    value = TeacherDecisionLoss(decision)(leaf, feature, label)
    first, second = (torch.autograd.grad(value, leaf, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_a_gradient_of_the_gradient_is_a_clear_error():
    decision, scores, feature, label = make_inputs('subclass')
    scores.requires_grad_()
    value = TeacherDecisionLoss(decision)(scores, feature, label)
    with pytest.raises(RuntimeError, match='TeacherDecisionLoss .* has no second derivative'):
        torch.autograd.grad(value, scores, create_graph=True)


def test_scores_that_are_no_contiguous_tensor():
    decision, scores, feature, label = make_inputs('subclass', torch.float64)
    loss = TeacherDecisionLoss(decision)
    expected = run(loss, scores, feature, label)
    last = torch.channels_last
    found = run(loss, scores.to(memory_format=last), feature.to(memory_format=last), label)
    for value, other in zip(found, expected):
        torch.testing.assert_close(value, other)


def test_the_decision_is_built_from_its_config():
    config = dict(type='mmkdlayer.CentroidDecision', num_centroids=7)
    loss = MODELS.build(dict(type='mmkdlayer.TeacherDecisionLoss', decision=config))
    assert type(loss.decision) is CentroidDecision and loss.loss_weight == 1.0
    assert not loss.state_dict()
    for wrong in (
        nn.Identity(),
        dict(type='mmkdlayer.KDLayerConnector', in_channels=1, num_templates=1),
    ):
        with pytest.raises(ConfigError, match='decision must be a TeacherDecision'):
            TeacherDecisionLoss(wrong)


def test_an_unfitted_decision_names_the_command_that_fits():
    loss = TeacherDecisionLoss(CentroidDecision(7))
    with pytest.raises(UnfittedDecisionError, match='mmkdlayer fit_decisions CONFIG'):
        loss(torch.zeros(2, 7, 1, 1), torch.zeros(2, CHANNELS, 1, 1))


@pytest.mark.parametrize(
    ('scores', 'feature', 'message'),
    [
        ((2, 8, 3, 3), (2, 4, 3, 3), r'K=7.*\(2, 8, 3, 3\).*Set num_templates .* to 7'),
        ((2, 7), (2, 4, 3, 3), r'K=7.*\(2, 7\)'),
        ((2, 7, 3, 3), (3, 4, 3, 3), 'scores are of 2 images and the teacher features of 3'),
        ((2, 7, 3, 3), (2, 5, 3, 3), '4 channels.* have 5'),
        ((2, 7, 3, 3), (2, 4, 1, 1), r"teacher's map is \(1, 1\), smaller than .* \(3, 3\)"),
        ((2, 7, 3, 3), (2, 4), r'expected a teacher feature map'),
    ],
)
def test_shapes_that_do_not_fit(scores, feature, message):
    loss = TeacherDecisionLoss(make_decision('centroid'))
    with pytest.raises(ConfigError, match=message):
        loss(torch.zeros(scores), torch.zeros(feature))


def test_a_teacher_feature_that_is_a_tuple_is_an_error_that_says_how_to_choose():
    loss = TeacherDecisionLoss(make_decision('centroid'))
    with pytest.raises(ConfigError, match='teacher_index'):
        loss(torch.zeros(2, 7, 3, 3), (torch.zeros(2, 4, 3, 3),))


@pytest.mark.parametrize('chunk', [1, 1 << 22])
@pytest.mark.parametrize(
    ('label', 'error', 'message'),
    [
        ([0, 1, 3], DataError, r'0 to 2 \(num_classes=3\), but got \[3\]'),
        ([0, 1], ConfigError, r'expected labels \(3,\).*got \(2,\)'),
        ([0, 1, 2, 0], ConfigError, r'expected labels \(3,\).*got \(4,\)'),
        (None, ConfigError, 'needs the images. labels'),
    ],
)
def test_labels_that_do_not_fit(label, error, message, chunk, monkeypatch):
    monkeypatch.setattr(teacher_decision_loss, 'CHUNK', chunk)
    loss = TeacherDecisionLoss(make_decision('subclass'))
    label = None if label is None else torch.tensor(label)
    with pytest.raises(error, match=message):
        loss(torch.zeros(3, 6, 2, 2), torch.zeros(3, CHANNELS, 2, 2), label)
