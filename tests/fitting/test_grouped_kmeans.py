from __future__ import annotations

import torch
from sklearn.cluster import KMeans

from mmkdlayer.fitting import grouped_kmeans as module
from mmkdlayer.fitting.grouped_kmeans import _Block, grouped_kmeans

CPU = torch.device('cpu')


def make_groups(sizes=(90, 40, 64, 9), channels=5):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(sum(sizes), channels, generator=generator) + 3.0
    return rows, torch.tensor(sizes)


def objective(points, centers):
    return float((points.double()[:, None] - centers[None]).square().sum(2).amin(1).sum())


def test_each_group_is_clustered_like_scikit_learn_does():
    rows, counts = make_groups((400, 300, 350, 390, 310, 333))
    centers, equal = grouped_kmeans(rows, counts, 8, device=CPU)
    ours = theirs = 0.0
    for group, points in enumerate(rows.split(counts.tolist())):
        ours += objective(points, centers[group])
        theirs += KMeans(8, n_init=1, random_state=0).fit(points.numpy()).inertia_
    assert ours < 1.02 * theirs
    assert not equal.any()


def test_groups_together_equal_groups_alone(monkeypatch):
    rows, counts = make_groups()
    together, _ = grouped_kmeans(rows, counts, 4, device=CPU)
    monkeypatch.setattr(module, '_CPU_ELEMENTS', 1)
    alone, _ = grouped_kmeans(rows, counts, 4, device=CPU)
    assert torch.allclose(together, alone, atol=1e-12)


def test_separate_blobs_are_found():
    places = 50 * torch.eye(6)
    noise = torch.randn(120, 6, generator=torch.Generator().manual_seed(0))
    centers, _ = grouped_kmeans(places.repeat(20, 1) + noise, torch.tensor([120]), 6, device=CPU)
    order = centers[0].argmax(1).argsort()
    assert torch.allclose(centers[0][order].float(), places, atol=1.0)


def test_the_seed_decides():
    rows, counts = make_groups()
    first, again, other = (
        grouped_kmeans(rows, counts, 6, device=CPU, seed=seed)[0] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_fewer_distinct_points_than_clusters_are_reported_and_stay_valid():
    rows = torch.cat([torch.tensor([[1.0, 2.0], [5.0, 2.0]]).repeat(6, 1), torch.randn(20, 2)])
    centers, equal = grouped_kmeans(rows, torch.tensor([12, 20]), 4, device=CPU)
    assert equal.tolist() == [True, False]
    assert torch.isfinite(centers).all()
    assert objective(rows[:12], centers[0]) == 0


def test_empty_clusters_go_to_the_farthest_points_of_their_group():
    block = _Block([torch.tensor([[-5.0], [-1.0], [0.0], [6.0]]).double()], 3)
    centers = torch.tensor([[[0.0], [100.0], [200.0]]]).double()
    moved = block._move(centers, torch.zeros(1, 4, dtype=torch.int64))
    assert moved.flatten().tolist() == [0.0, 6.0, -5.0]
