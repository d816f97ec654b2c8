from __future__ import annotations

import pytest
import torch

from mmkdlayer.fitting import decision_table, fit_subclasses
from mmkdlayer.fitting.decision_table import DenseCounts, SparseCounts, counts_for
from mmkdlayer.models.decisions import SubclassDecision

SIZE = 13


@pytest.mark.parametrize('waiting', [1, 50, 1 << 22])
def test_sparse_counts_are_the_dense_ones(monkeypatch, waiting):
    monkeypatch.setattr(decision_table, '_WAITING', waiting)
    generator = torch.Generator().manual_seed(waiting)
    dense, sparse = DenseCounts(SIZE), SparseCounts(SIZE)
    expected = torch.zeros(SIZE, SIZE)
    for length in (40, 0, 7, 30):
        own, nearest = torch.randint(0, SIZE - 3, (2, length), generator=generator)
        for counts in (dense, sparse):
            counts.add(own, nearest)
        for a, b in zip(own.tolist(), nearest.tolist()):
            expected[a, b] += 1
    fallback = torch.randint(0, SIZE, (SIZE,), generator=generator)
    for row in (expected.sum(1) == 0).nonzero().flatten():
        expected[row, fallback[row]] = 1
    expected = (expected.double() / expected.double().sum(1, keepdim=True)).float()
    found = sparse.to_decisions(fallback)
    assert found.is_sparse and found.is_coalesced()
    assert found._nnz() == (expected > 0).sum()
    assert torch.equal(found.to_dense(), expected)
    assert torch.equal(dense.to_decisions(fallback), expected)


def test_sparse_counts_of_nothing_decide_for_the_fallback():
    counts = SparseCounts(3)
    assert counts.to_decisions(torch.tensor([2, 0, 1])).to_dense().argmax(1).tolist() == [2, 0, 1]


def test_a_cell_may_hold_any_number_of_positions():
    counts = SparseCounts(2)
    for own, nearest, times in ((0, 0, 300), (0, 1, 100), (1, 1, 70_000)):
        counts.add(torch.full((times,), own), torch.full((times,), nearest))
    expected = [[0.75, 0.25], [0.0, 1.0]]
    assert counts.to_decisions(torch.zeros(2, dtype=torch.int64)).to_dense().tolist() == expected


def test_large_tables_are_sparse():
    assert isinstance(counts_for(8000), DenseCounts)  # ImageNet
    assert isinstance(counts_for(21841 * 8), SparseCounts)  # ImageNet-21k: 122 GB densely


def test_a_sparse_fit_is_the_dense_one(maps, monkeypatch, tmp_path):
    dense = fit_subclasses(maps.batches(50), 6, 4)
    monkeypatch.setattr(decision_table, 'DENSE_BYTES', 0)
    sparse = fit_subclasses(maps.batches(50), 6, 4)
    sparse.save(tmp_path / 'sparse.safetensors')
    assert sparse.decisions.is_sparse and not dense.decisions.is_sparse
    expected = dense.decide(maps.features, maps.labels)
    for decision in (sparse, SubclassDecision.load(tmp_path / 'sparse.safetensors')):
        assert torch.equal(decision.decisions.to_dense(), dense.decisions)
        assert torch.allclose(decision.decide(maps.features, maps.labels), expected)
