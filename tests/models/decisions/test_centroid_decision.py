"""Soft assignment to centroids, against the formula in float64."""

from __future__ import annotations

import math

import pytest
import torch
from normal_numbers import NoSubnormals, has_subnormals
from torch import Tensor

from mmkdlayer.errors import ConfigError
from mmkdlayer.models import CentroidDecision, TeacherDecisionLoss
from mmkdlayer.models.ops import softmax_and_logs
from mmkdlayer.registry import MODELS


def oracle(feature: Tensor, centroids: Tensor, temperature: float) -> Tensor:
    """``softmax_k(-tau |f - rho_k|^2)`` in plain loops (method.md, section 2a)."""
    images, channels, height, width = feature.shape
    found = torch.zeros(images, len(centroids), height, width, dtype=torch.float64)
    vectors = feature.double().permute(0, 2, 3, 1).reshape(-1, channels).tolist()
    book = centroids.double().tolist()
    for index, vector in enumerate(vectors):
        distances = [sum((f - c) ** 2 for f, c in zip(vector, center)) for center in book]
        nearest = min(distances)
        powers = [math.exp(-temperature * (distance - nearest)) for distance in distances]
        n, rest = divmod(index, height * width)
        h, w = divmod(rest, width)
        found[n, :, h, w] = torch.tensor(powers, dtype=torch.float64) / math.fsum(powers)
    return found


@pytest.mark.parametrize('temperature', [1.0, 0.05, 7.0])
@pytest.mark.parametrize('shape', [(2, 3, 5, 2, 3), (1, 8, 20, 1, 1), (3, 1, 1, 2, 2)])
def test_it_is_the_softmax_of_negative_squared_distances(shape, temperature):
    images, channels, count, height, width = shape
    centroids = torch.randn(count, channels)
    feature = torch.randn(images, channels, height, width)
    decision = CentroidDecision.from_tables(centroids, temperature)
    found = decision.decide(feature)
    assert found.dtype == torch.float32
    expected = oracle(feature, centroids, temperature)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)
    found = decision.decide(feature.double())
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_the_nearest_centroid_gets_most():
    decision = CentroidDecision.from_tables(torch.tensor([[0.0, 0.0], [5.0, 0.0]]))
    found = decision.decide(torch.tensor([0.2, 0.1]).view(1, 2, 1, 1))
    assert found.argmax() == 0 and found.max() > 0.99


@pytest.mark.parametrize('distance', [100.0, 3000.0])
def test_a_code_book_far_from_the_origin(distance):
    centroids = distance + 0.3 * torch.randn(40, 16)
    feature = distance + 0.3 * torch.randn(2, 16, 3, 3)
    expected = oracle(feature, centroids, 1.0)
    assert 0.1 < expected.max() < 0.99
    found = CentroidDecision.from_tables(centroids).decide(feature)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)


def test_features_like_those_behind_a_relu():
    feature = (2 * torch.randn(4, 64, 4, 4)).relu()
    vectors = feature.permute(0, 2, 3, 1).reshape(-1, 64)
    centroids = (vectors[:32, None] + 0.2 * torch.randn(32, 4, 64)).flatten(0, 1)
    expected = oracle(feature, centroids, 0.2)
    found = CentroidDecision.from_tables(centroids, 0.2).decide(feature)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)


def test_very_distant_features_stay_finite():
    decision = CentroidDecision.from_tables(torch.randn(5, 3))
    found = decision.decide(torch.full((1, 3, 1, 1), 1e6))
    assert torch.isfinite(found).all()
    assert float(found.sum()) == pytest.approx(1)


def test_logits_of_the_largest_tables_are_finite():
    largest = torch.tensor([[1e18], [-1e18]])
    feature = torch.tensor([[1e18, -3e18]]).view(2, 1, 1, 1)
    found = CentroidDecision.from_tables(largest).decide(feature)
    assert found.flatten(1).tolist() == [[1, 0], [0, 1]]
    scores = torch.tensor([[0.5, 0], [1, 0]]).view(2, 2, 1, 1)
    loss = TeacherDecisionLoss(CentroidDecision.from_tables(largest))(scores, feature)
    # log(1 + e^-0.5) and log(1 + e) of two positions
    assert float(loss) == pytest.approx((0.474077 + 1.313262) / 2, rel=1e-5)
    for changed in (dict(centroids=2 * largest), dict(temperature=4.0)):
        with pytest.raises(ConfigError, match='since float32 holds no larger logits'):
            CentroidDecision.from_tables(**{'centroids': largest, **changed})


@pytest.mark.parametrize('temperature', [1.0, 50.0])
def test_sharp_decisions_are_compared_without_subnormal_numbers(temperature):
    decision = CentroidDecision.from_tables(4 * torch.randn(500, 8), temperature)
    feature = 4 * torch.randn(3, 8, 4, 4)
    p = oracle(feature, decision.centroids, temperature).permute(0, 2, 3, 1).flatten(0, 2)
    assert has_subnormals(p)
    scores = temperature * torch.randn(48, 500)
    log_q = scores.double().log_softmax(1)
    targets = decision.row_targets(feature, None)
    with NoSubnormals():
        grad, logs, offset = softmax_and_logs(scores)
        found = targets.divergence(slice(0, 48), logs, offset, grad)
        again = decision.decide(feature)
    torch.testing.assert_close(
        again.permute(0, 2, 3, 1).flatten(0, 2).double(), p, atol=1e-4, rtol=0
    )
    expected = (torch.special.xlogy(p, p) - p * log_q).sum()
    assert float(found) == pytest.approx(float(expected), rel=1e-4)
    torch.testing.assert_close(grad.double(), log_q.exp() - p, atol=1e-4, rtol=0)


def test_the_label_does_not_matter():
    decision = CentroidDecision.from_tables(torch.randn(5, 3))
    feature = torch.randn(2, 3, 2, 2)
    assert torch.equal(decision.decide(feature), decision.decide(feature, torch.tensor([7, -1])))


def test_attributes():
    centroids = torch.randn(5, 3)
    decision = CentroidDecision.from_tables(centroids, temperature=2)
    assert torch.equal(decision.centroids, centroids)
    assert (decision.num_templates, decision.feature_channels) == (5, 3)
    assert decision.temperature == 2.0
    default = MODELS.build(dict(type='mmkdlayer.CentroidDecision'))
    assert (default.num_templates, default.temperature) == (4096, 1.0)


def test_centroids_that_want_gradients_do_not_pass_them_on():
    decision = CentroidDecision.from_tables(torch.randn(5, 3, requires_grad=True))
    assert not decision.decide(torch.randn(1, 3, 2, 2)).requires_grad


@pytest.mark.parametrize('arguments', [dict(num_centroids=0), dict(temperature=0)])
def test_arguments_must_be_positive(arguments):
    name = next(iter(arguments))
    with pytest.raises(ConfigError, match=f'{name} must be .* but got 0'):
        CentroidDecision(**arguments)


@pytest.mark.parametrize(
    ('centroids', 'message'),
    [
        (torch.zeros(3), r'expected centroids \(K, D\), but got \(3,\)'),
        (torch.tensor([[1.0, math.nan]]), 'not finite'),
    ],
)
def test_tables_that_are_no_code_book(centroids, message):
    with pytest.raises(ConfigError, match=message):
        CentroidDecision.from_tables(centroids)


def test_another_number_of_centroids_is_an_error_that_names_both():
    with pytest.raises(ConfigError, match=r'K=4.*\(5, 3\)'):
        CentroidDecision(4).set_tables(centroids=torch.zeros(5, 3))
