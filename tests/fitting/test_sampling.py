from __future__ import annotations

import pytest
import torch

from mmkdlayer.fitting.sampling import HashSample, PositionHashes, vector_hashes


def stream(sample, rows, hashes, groups, size, seed):
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    for part in order.split(size):
        sample.add(rows[part], hashes[part], groups[part])
    return sample.collect()


def oracle(rows, hashes, groups, capacity):
    """The rows with the smallest hashes of each group, by sorting tuples."""
    kept = []
    for group in range(int(groups.max()) + 1):
        pairs = sorted((int(hashes[i]), i) for i in range(len(rows)) if groups[i] == group)
        kept += [i for _, i in pairs[:capacity]]
    return rows[kept]


@pytest.mark.parametrize(('capacity', 'size'), [(3, 1), (100, 7), (1500, 5000), (5000, 64)])
def test_sample_is_the_smallest_hashes_in_any_batches(capacity, size):
    rows = torch.randn(5000, 6, generator=torch.Generator().manual_seed(0))
    groups = torch.arange(5000) % 3 // 2 * 2  # group 1 stays empty
    hashes = vector_hashes(rows, 0)
    expected = oracle(rows, hashes, groups, capacity)
    for seed in (1, 2):
        found = stream(HashSample(capacity, 6, 3), rows, hashes, groups, size, seed)
        assert torch.equal(found[0], expected)
        assert found[1].tolist() == [min(capacity, 3334), 0, min(capacity, 1666)]


def test_hash_depends_on_seed_and_content_only():
    features = torch.randn(10, 6, 8, generator=torch.Generator().manual_seed(0))
    hashes = PositionHashes(0)(features)
    assert len(hashes.unique()) == 60
    assert torch.equal(PositionHashes(0)(features[3:5]), hashes[3:5])
    assert not torch.equal(PositionHashes(1)(features), hashes)
    nudged = features.clone()
    nudged[0, 0, 0] = torch.nextafter(nudged[0, 0, 0], torch.tensor(9.0))
    assert not torch.equal(PositionHashes(0)(nudged)[0], hashes[0])
    assert torch.equal(PositionHashes(0)(nudged)[1:], hashes[1:])


def test_equal_vectors_in_different_images_get_hashes_of_their_own():
    features = torch.randn(200, 4, 3, generator=torch.Generator().manual_seed(0))
    features[:, 1:3] = 0
    assert len(PositionHashes(0)(features)[:, 1:3].unique()) == 400


def test_zero_and_minus_zero_are_equal():
    assert vector_hashes(torch.tensor([[0.0, 1.0], [-0.0, 1.0]]), 0).unique().numel() == 1


def test_hashes_are_spread_evenly():
    features = torch.randn(500, 8, 4, generator=torch.Generator().manual_seed(0)).relu()
    shares = (PositionHashes(0)(features).flatten().double() / 2.0**63).sort().values
    even = torch.linspace(-1, 1, len(shares), dtype=torch.float64)
    assert (shares - even).abs().max() < 0.05


@pytest.mark.parametrize(('capacity', 'rows'), [(1 << 28, 24), (1 << 28, 3000), (2000, 9000)])
def test_room_grows_by_the_data(capacity, rows):
    """A memory_budget is what may be taken: for 24 vectors little more is asked for."""
    sample = HashSample(capacity, 6)
    vectors = torch.randn(rows, 6, generator=torch.Generator().manual_seed(0))
    hashes = vector_hashes(vectors, 0)
    most = 0
    for part in torch.arange(rows).split(100):
        sample.add(vectors[part], hashes[part])
        most = max(most, len(sample._rows))
    assert most <= min(max(1024, 4 * rows), capacity + max(1024, capacity // 8))
    assert torch.equal(sample.collect()[0], oracle(vectors, hashes, torch.zeros(rows), capacity))
