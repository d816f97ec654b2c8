from __future__ import annotations

import numpy as np
import pytest
import torch

from mmkdlayer.fitting.nearest import CenterSearch, ExactCenterSearch


def brute_force(points, centers):
    """First index of the smallest float64 squared distance, one point at a time."""
    found = []
    for point in points.double().numpy():
        found.append(((centers.double().numpy() - point) ** 2).sum(1).argmin())
    return np.array(found)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('number', [1, 5, 64, 65, 300])
def test_search_finds_the_best_score(number):
    points, centers = normal(400, 6), normal(number, 6, seed=1)
    indices, found = CenterSearch(centers).find(points)
    scores = points.double() @ centers.double().t() - centers.double().square().sum(1) / 2
    assert torch.equal(indices, scores.argmax(1))
    assert torch.allclose(found.double(), scores.amax(1), atol=1e-5)


def test_search_in_chunks_equals_one_chunk():
    points, centers = normal(400, 6), normal(70, 6, seed=1)
    search = CenterSearch(centers)
    whole, _ = search.find(points)
    search.rows = 33
    parts, _ = search.find(points)
    assert torch.equal(whole, parts)


@pytest.mark.parametrize('number', [1, 2, 64, 130])
def test_exact_search_equals_brute_force_on_near_ties(number):
    centers = normal(number, 5, seed=1) + 40.0
    pairs = torch.randint(0, number, (500, 2), generator=torch.Generator().manual_seed(2))
    middle = (centers[pairs[:, 0]].double() + centers[pairs[:, 1]].double()) / 2
    points = middle + 1e-9 * normal(500, 5, seed=3).double()
    assert (ExactCenterSearch(centers).find(points).numpy() == brute_force(points, centers)).all()


def test_plain_float32_search_would_fail_the_near_ties():
    centers = normal(130, 5, seed=1) + 40.0
    pairs = torch.randint(0, 130, (500, 2), generator=torch.Generator().manual_seed(2))
    middle = (centers[pairs[:, 0]].double() + centers[pairs[:, 1]].double()) / 2
    points = middle + 1e-9 * normal(500, 5, seed=3).double()
    plain = CenterSearch(centers).find(points.float())[0].numpy()
    assert (plain != brute_force(points, centers)).any()


def test_ties_go_to_the_lowest_index():
    centers = normal(70, 5)
    centers[[50, 69]] = centers[3].clone()
    points = centers[[3, 50, 69]].double()
    assert ExactCenterSearch(centers).find(points).tolist() == [3, 3, 3]
    assert CenterSearch(torch.zeros(70, 5)).find(normal(9, 5))[0].tolist() == [0] * 9
