from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from mmkdlayer.errors import DataError
from mmkdlayer.fitting.lda import ClassStatistics, fit_lda


def fit(rows, labels, components, classes=6):
    statistics = ClassStatistics.zeros(classes, rows.shape[1], torch.device('cpu'))
    for part, own in zip(rows.split(11), labels.split(11)):
        statistics.update(part[:, None], own)
    return fit_lda(statistics, components)


def distances(points):
    difference = points[:, None] - points[None]
    return np.sqrt((difference**2).sum(-1))


def assert_same_up_to_scale(rows, labels, components, tolerance=1e-7):
    found = fit(rows, labels, components)
    z = (rows.double() @ found[0].t() + found[1]).numpy()
    oracle = LinearDiscriminantAnalysis(solver='svd', n_components=components)
    expected = oracle.fit(rows.double().numpy(), labels.numpy()).transform(rows.double().numpy())
    assert z.shape == expected.shape
    ours, theirs = distances(z[:80]), distances(expected[:80])
    scale = (ours * theirs).sum() / (theirs**2).sum()
    np.testing.assert_allclose(ours, scale * theirs, atol=tolerance * ours.max())
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-9)


@pytest.mark.parametrize('components', [1, 3, 5])
def test_distances_are_those_of_scikit_learn_up_to_one_scale(maps, components):
    rows, labels = maps.positions()
    assert_same_up_to_scale(rows.float(), labels, components)


def test_dead_constant_and_collinear_channels_are_dropped_as_the_svd_solver_does(maps):
    rows, labels = maps.positions()
    extra = [torch.zeros(len(rows), 2), torch.full((len(rows), 1), 3.7)]
    noise = torch.randn(len(rows), 3, generator=torch.Generator().manual_seed(0))
    doubled = 2 * rows[:, :3].float() + 1e-6 * noise  # collinear but for less than the tolerance
    rows = torch.cat([rows.float(), *extra, doubled], 1)
    # scikit-learn sees rounding of the mean in a constant channel, so give it one at zero.
    oracle_rows = rows.clone()
    oracle_rows[:, 14] = 0
    found = fit(rows, labels, 5)
    assert found[0][:, 12:15].abs().max() == 0
    again = fit(oracle_rows, labels, 5)
    assert torch.allclose(found[0], again[0], atol=1e-12)
    # Directions below the tolerance are cut a little differently where they are nearly collinear.
    assert_same_up_to_scale(oracle_rows, labels, 5, tolerance=1e-6)


def test_a_channel_that_varies_by_rounding_only_is_constant(maps):
    rows, labels = maps.positions()
    value = torch.tensor(3.7)
    noise = torch.where(rows[:, 0] > rows[:, 1], value, torch.nextafter(value, torch.tensor(9.0)))
    found = fit(torch.cat([rows.float(), noise[:, None]], 1), labels, 5)
    assert found[0][:, 12].abs().max() == 0
    assert torch.allclose(found[0][:, :12], fit(rows.float(), labels, 5)[0])


def test_within_class_variance_of_each_component_is_one(maps):
    rows, labels = maps.positions()
    found = fit(rows.float(), labels, 5)
    z = rows @ found[0].t() + found[1]
    within = sum(((z[labels == c] - z[labels == c].mean(0)) ** 2).sum(0) for c in range(6))
    assert torch.allclose(within / len(z), torch.ones(5, dtype=torch.float64), rtol=1e-9)


def test_components_are_limited_by_classes_and_by_channels(maps):
    rows, labels = maps.positions()
    assert fit(rows.float(), labels, 60)[0].shape == (5, 12)
    assert fit(rows[:, :2].float(), labels, 60)[0].shape == (2, 2)


def test_features_without_discriminant_direction_are_refused():
    labels = torch.arange(60) % 6
    with pytest.raises(DataError, match='do not vary within'):
        fit(torch.ones(60, 4), labels, 5)
    repeated = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(DataError, match='same mean in every class'):
        fit(repeated.repeat_interleave(6, 0), labels, 5)
