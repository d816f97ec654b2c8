from __future__ import annotations

import numpy as np
import pytest
import torch

from mmkdlayer.errors import DataError
from mmkdlayer.fitting.kmeans import _move, kmeans


def blobs(number=12, each=30, channels=5, spread=2.0):
    generator = torch.Generator().manual_seed(0)
    places = 10 * torch.randn(number, channels, generator=generator)
    points = places.repeat(each, 1)
    return points + spread * torch.randn(points.shape, generator=generator)


def objective(points, centers):
    distances = ((points.double()[:, None] - centers.double()[None]) ** 2).sum(2)
    return float(distances.amin(1).sum())


def oracle_lloyd(points, centers, iterations):
    """Plain loops in float64; a cluster that gets empty fails the comparison."""
    points, centers = points.double().numpy(), centers.double().numpy().copy()
    for _ in range(iterations):
        own = [((centers - point) ** 2).sum(1).argmin() for point in points]
        for cluster in range(len(centers)):
            centers[cluster] = points[np.array(own) == cluster].mean(0)
    return centers


def test_steps_equal_plain_lloyd_from_the_same_start():
    points = torch.randn(300, 4, generator=torch.Generator().manual_seed(1)) + 30.0
    start = kmeans(points.clone(), 10, iterations=1, seed=5)
    found = kmeans(points.clone(), 10, iterations=6, seed=5)
    np.testing.assert_allclose(found.numpy(), oracle_lloyd(points, start, 5), rtol=1e-5)


def test_centers_are_the_means_of_their_points_at_the_end():
    points = blobs()
    centers = kmeans(points.clone(), 15, iterations=100)
    own = ((points[:, None] - centers[None]) ** 2).sum(2).argmin(1)
    for cluster in range(15):
        mean = points[own == cluster].double().mean(0)
        assert torch.allclose(centers[cluster].double(), mean, atol=1e-5)


def test_the_seed_alone_decides():
    points = torch.randn(500, 4, generator=torch.Generator().manual_seed(1))
    first, again, other = (kmeans(points.clone(), 20, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_empty_clusters_go_to_the_farthest_points():
    points = torch.tensor([[0.0], [1.0], [5.0], [9.0]])
    centers = torch.tensor([[0.0], [100.0], [200.0]])
    clusters = torch.zeros(4, dtype=torch.int64)
    moved = _move(points, centers, clusters, distances=points.square().squeeze(1))
    assert moved.squeeze(1).tolist() == [3.75, 9.0, 5.0]


def test_fewer_vectors_than_clusters_are_refused():
    with pytest.raises(DataError, match=r'11 centroids.*gives 10'):
        kmeans(torch.randn(10, 3), 11)


def test_fewer_distinct_vectors_than_clusters_give_equal_centers_and_a_warning():
    distinct = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-0.0, 2.0], [3.0, 3.0]])
    with pytest.warns(UserWarning, match='only 3 distinct'):
        centers = kmeans(distinct.repeat(5, 1), 7)
    assert torch.isfinite(centers).all()
    assert objective(distinct, centers) < 1e-10
    assert len(centers.unique(dim=0)) == 3
