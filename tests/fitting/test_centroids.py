from __future__ import annotations

import numpy as np
import pytest
import torch
from fitted_tables import fit_from
from sklearn.cluster import KMeans

from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.fitting import CentroidFitter, fit_centroids
from mmkdlayer.fitting.kmeans import StreamedStep


def fit(batches, number, **options):
    return fit_from(batches, CentroidFitter(number, **options))['centroids']


def objective(rows, centroids):
    return float((rows[:, None] - centroids.double()[None]).square().sum(2).amin(1).sum())


def test_objective_is_that_of_scikit_learn(maps):
    rows, _ = maps.positions()
    centroids = fit(maps.batches(50), 20, iterations=50)
    theirs = KMeans(20, n_init=1, random_state=0).fit(rows.numpy())
    assert objective(rows, centroids) < 1.05 * theirs.inertia_


@pytest.mark.parametrize('budget', [1 << 20, 60 * 300])
@pytest.mark.parametrize(('size', 'seed'), [(1, 1), (13, 2), (120, 3)])
def test_any_batches_in_any_order_give_the_same_bits(maps, budget, size, seed):
    whole = fit(maps.batches(120), 20, memory_budget=budget)
    parts = fit(maps.batches(size, seed), 20, memory_budget=budget)
    assert torch.equal(whole, parts)


def test_a_small_budget_samples_and_the_seed_chooses(maps):
    everything = fit(maps.batches(50), 20)
    first, other = (fit(maps.batches(50), 20, memory_budget=60 * 300, seed=s) for s in (0, 1))
    rows, _ = maps.positions()
    assert not torch.equal(first, other)
    assert objective(rows, first) < 1.3 * objective(rows, everything)


def test_streaming_passes_are_steps_with_all_the_vectors(maps):
    rows, _ = maps.positions()
    centroids = fit(maps.batches(50), 20, memory_budget=60 * 300).double()
    for passes in (1, 2):
        own = (rows[:, None] - centroids[None]).square().sum(2).argmin(1)
        centroids = torch.stack([rows[own == k].mean(0) for k in range(20)])
        options = {'memory_budget': 60 * 300, 'streaming_passes': passes}
        found = fit(maps.batches(13, seed=passes), 20, **options)
        assert torch.allclose(found.double(), centroids, atol=1e-5)


def test_an_empty_cluster_keeps_its_center_in_a_streamed_step():
    step = StreamedStep(torch.tensor([[0.0], [50.0]]), 2)
    step.update(torch.tensor([[1.0], [2.0]]))
    assert step.finish().flatten().tolist() == [1.5, 50.0]


def test_larger_maps_are_pooled(maps_factory):
    maps = maps_factory(height=4, width=6)
    pooled = torch.nn.functional.avg_pool2d(maps.features, (2, 3))
    expected = fit(maps._replace(features=pooled).batches(50), 10)
    found = fit(maps.batches(50), 10, size=(2, 2))
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)


def test_the_decision_holds_the_tables(maps):
    decision = fit_centroids(maps.batches(50), 20, temperature=0.5, seed=3)
    assert torch.equal(decision.centroids, fit(maps.batches(50), 20, seed=3))
    assert float(decision.temperature) == 0.5
    assert decision.centroids.dtype == torch.float32


def test_fewer_vectors_than_centroids_are_refused(maps):
    with pytest.raises(DataError, match=r'721 centroids.*gives 720'):
        fit_centroids(maps.batches(50), 721)


def test_other_data_in_a_streaming_pass_is_refused(maps):
    with pytest.raises(DataError, match='gave 0 positions, the first 720'):
        fit_centroids(iter(maps.batches(50)), 20, streaming_passes=1)


def test_no_data_is_refused():
    with pytest.raises(DataError, match='no feature at all'):
        fit_centroids([], 2)


def test_a_budget_below_the_number_of_centroids_is_refused(maps):
    with pytest.raises(ConfigError, match='memory_budget'):
        fit_centroids(maps.batches(50), 20, memory_budget=600)


def test_a_map_smaller_than_the_students_is_fitted_at_its_own_size(maps):
    features, labels = maps
    own = fit_centroids([(features, labels)], 3)
    found = fit_centroids([(features, labels)], 3, size=(6, 6))
    assert torch.equal(own.centroids, found.centroids)


def test_one_channel_type_and_map_is_expected(maps):
    features, labels = maps
    with pytest.raises(DataError, match=r'5 channels.*12'):
        fit_centroids([(features, labels), (features[:, :5], labels)], 2)
    with pytest.raises(ConfigError, match=r'\(1, 1\), smaller than .* \(3, 3\)'):
        fit_centroids([(features.mean((2, 3), keepdim=True), labels)], 2, size=(3, 3))
    with pytest.raises(DataError, match=r'\(B, D, H, W\)'):
        fit_centroids([(features.mean((2, 3)), labels)], 2)
    for value in (float('nan'), float('inf')):
        broken = features.clone()
        broken[5, 1, 2, 0] = value
        with pytest.raises(DataError, match='not finite'):
            fit_centroids([(features, labels), (broken, labels)], 2)


def test_large_finite_values_are_not_taken_for_infinite():
    features = torch.full((4, 2, 1, 1), 3e38)
    features[0] = 0
    assert fit([(features, None)], 1).isfinite().all()
