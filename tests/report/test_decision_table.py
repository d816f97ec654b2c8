"""Statistics of a table's rows, compared with plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from mmkdlayer.models import SubclassDecision
from mmkdlayer.report import decision_table

CLASSES, SUBCLASSES = 4, 3


@pytest.mark.parametrize('sparse', [False, True])
def test_rows_are_those_of_loops(sparse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    count = CLASSES * SUBCLASSES
    monkeypatch.setattr(decision_table, 'BLOCK', 5 * count)  # the last block is smaller
    table = torch.rand(count, count).pow(3)
    table[table < 0.2] = 0
    table = table / table.sum(1, keepdim=True)
    decision = SubclassDecision.from_tables(
        torch.randn(2, 5),
        torch.randn(2),
        torch.randn(count, 2),
        table.to_sparse() if sparse else table,
        CLASSES,
    )
    found = decision_table.read_rows(decision, rivals=2)
    rows = table.double().tolist()
    filled = sum(value > 0 for row in rows for value in row)
    assert found.density == pytest.approx(filled / count**2)
    for a, row in enumerate(rows):
        label = a // SUBCLASSES
        by_class = [sum(row[c * SUBCLASSES : (c + 1) * SUBCLASSES]) for c in range(CLASSES)]
        others = sorted((c for c in range(CLASSES) if c != label), key=lambda c: -by_class[c])
        entropy = -sum(value * math.log(value) for value in row if value)
        assert found.own[a] == pytest.approx(row[a], abs=1e-6)
        assert found.own_class[a] == pytest.approx(by_class[label], abs=1e-6)
        assert found.highest[a] == pytest.approx(max(row), abs=1e-6)
        assert found.perplexity[a] == pytest.approx(math.exp(entropy), rel=1e-5)
        # Two may have the same share.
        assert label not in found.rivals[a]
        for shares in (found.rival_shares[a], [by_class[c] for c in found.rivals[a]]):
            assert shares == pytest.approx([by_class[c] for c in others[:2]], abs=1e-6)
