"""The geometry probe, compared with a discriminant computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mmkdlayer.report.geometry import discriminant_accuracy, probe, weakness

pytest.importorskip('sklearn', reason='the geometry probe needs scikit-learn')


def made_up(count: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    labels = rng.integers(0, 3, count)
    centers = 3 * np.eye(3, 4)
    return centers[labels] + spread * rng.standard_normal((count, 4)), labels


def test_accuracy_is_that_of_the_formula() -> None:
    (train, labels), (test, test_labels) = made_up(300, 1.5), made_up(200, 1.5)
    means = np.stack([train[labels == c].mean(0) for c in range(3)])
    within = sum(np.cov(train[labels == c].T, bias=True) * (labels == c).mean() for c in range(3))
    weights = means @ np.linalg.inv(within)
    priors = np.log([(labels == c).mean() for c in range(3)])
    scores = test @ weights.T - 0.5 * (weights * means).sum(1) + priors
    expected = float((scores.argmax(1) == test_labels).mean())
    assert 0.5 < expected < 1
    assert discriminant_accuracy(train, labels, test, test_labels) == pytest.approx(
        expected, abs=0.01
    )


def test_a_layer_that_separates_is_better_after() -> None:
    (far, labels), (near, _) = made_up(300, 0.5), made_up(300, 3.0)
    found = probe(
        's', dict(inter=None), (dict(inter=(near, far)), labels), (dict(inter=(near, far)), labels)
    )
    assert found[0].after == 1 and found[0].before < 0.9 and found[0].alpha is None


def test_few_images_are_named() -> None:
    assert weakness(1000, 100, 10) == ''
    assert '50 images for 10 classes' in weakness(50, 16, 10)
