"""Targets that are asked for by rows against the dense ones."""

from __future__ import annotations

import copy
import gc

import pytest
import torch

from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.models import (
    CentroidDecision,
    SubclassDecision,
    TeacherDecision,
    TeacherDecisionLoss,
)
from mmkdlayer.models.decisions.centroid_decision import SoftmaxTargets
from mmkdlayer.models.decisions.row_targets import (
    DenseTargets,
)
from mmkdlayer.models.decisions.table_targets import (
    DenseRows,
    SparseRows,
    TableTargets,
    prepare_rows,
)
from mmkdlayer.models.decisions.top_targets import TopTargets

CLASSES, SIZE, CHANNELS = 16, 32, 4


def make(kind: str) -> TeacherDecision:
    if kind == 'centroid':
        return CentroidDecision.from_tables(torch.randn(9, CHANNELS).double(), 0.4)
    table = torch.rand(SIZE, SIZE, dtype=torch.float64)
    if kind.startswith('sparse'):  # rows of one to four entries
        kept = torch.arange(SIZE) % 4 + 1
        threshold = table.sort(1, descending=True).values.gather(1, kept[:, None] - 1)
        table = table * (table >= threshold)
    table = table / table.sum(1, keepdim=True)
    return SubclassDecision.from_tables(
        torch.randn(3, CHANNELS).double(),
        torch.randn(3).double(),
        torch.randn(SIZE, 3).double(),
        table.to_sparse() if kind == 'sparse, stored sparse' else table,
        CLASSES,
    )


@pytest.mark.parametrize(
    ('kind', 'expected', 'table'),
    [
        ('centroid', SoftmaxTargets, None),
        ('dense', TableTargets, DenseRows),
        ('soft label', DenseTargets, None),
        ('mixed', TableTargets, DenseRows),
        ('sparse, mixed', TableTargets, SparseRows),
        ('sparse', TableTargets, SparseRows),
        ('sparse, stored sparse', TableTargets, SparseRows),
    ],
)
@pytest.mark.parametrize('rows', [slice(0, 30), slice(4, 7), slice(5, 23), slice(29, 30)])
def test_rows_are_those_of_the_dense_target(
    kind: str, expected: type, table: type | None, rows: slice
) -> None:
    decision = make(kind)
    feature = torch.randn(5, CHANNELS, 2, 3, dtype=torch.float64)
    label = torch.arange(5) % CLASSES
    if kind == 'soft label':
        label = torch.rand(5, CLASSES, dtype=torch.float64).softmax(1)
    if 'mixed' in kind:  # one to three classes
        label = torch.rand(5, CLASSES, dtype=torch.float64)
        counts = (torch.arange(5) % 3 + 1)[:, None]
        label *= torch.arange(CLASSES) < counts
        label = label / label.sum(1, keepdim=True)
    dense = decision.decide(feature, label).permute(0, 2, 3, 1).flatten(0, 2)[rows]
    targets = decision.row_targets(feature, label)
    assert type(targets) is expected
    assert table is None or type(targets.table) is table
    assert ('mixed' in kind) == (getattr(targets, 'shares', None) is not None)
    scores = torch.randn_like(dense)
    divergence = (torch.special.xlogy(dense, dense) - dense * scores).sum()
    torch.testing.assert_close(targets.divergence(rows, scores.clone()), divergence)
    grad = scores.clone()
    targets.subtract_from(rows, grad)
    torch.testing.assert_close(grad, scores - dense)


@pytest.mark.parametrize('kind', ['dense', 'sparse', 'centroid', 'top'])
def test_a_small_divergence_of_many_rows_keeps_its_digits(kind: str) -> None:
    count, size = 1000, 512
    table = torch.rand(size, size, dtype=torch.float64).pow(3)
    if kind == 'sparse':
        table *= torch.rand(size, size) < 0.05
    table = (table / table.sum(1, keepdim=True)).float()
    index = torch.randint(0, size, (count,))
    if kind == 'centroid':
        rows, weight, bias = torch.randn(count, 8), torch.randn(size, 8), torch.randn(size)
        targets = SoftmaxTargets(rows, weight, bias)
        p = (rows.double() @ weight.double().t() + bias.double()).softmax(1)
    elif kind == 'top':
        known, places = table[index].topk(16, dim=1)
        targets = TopTargets(places, known, size)
        p = ((1 - known.double().sum(1, keepdim=True)) / (size - 16)).repeat(1, size)
        p.scatter_(1, places, known.double())
    else:
        prepared = prepare_rows(table)
        targets = TableTargets(prepared['rows'], prepared['entropies'], index)
        p = table[index].double()
    log_q = (p.clamp_min(1e-30).log() + 0.01 * torch.randn(count, size)).log_softmax(1)
    log_q = log_q.float()
    expected = float((torch.special.xlogy(p, p) - p * log_q).sum())
    assert 0 < expected / count < 1e-4
    for shift in (0, 7):
        grad, offset = log_q.exp(), torch.full((count, 1), float(shift))
        found = targets.divergence(slice(0, count), log_q + shift, offset, grad)
        assert float(found) == pytest.approx(expected, rel=0.01)
        torch.testing.assert_close(grad.double(), log_q.double().exp() - p, atol=1e-6, rtol=1e-4)


def test_sparse_rows() -> None:
    table = torch.tensor([[0.0, 2, 3], [0, 0, 0], [4, 0, 0]])
    for rows in (SparseRows.of(table), SparseRows.of(table.to_sparse())):
        assert rows.starts.tolist() == [0, 2, 2, 3]
        assert rows.columns.tolist() == [1, 2, 0]
        assert rows.values.tolist() == [2, 3, 4]
        assert rows.longest == 2
        assert rows.owners().tolist() == [0, 0, 2]
        assert rows.to(torch.device('cpu'), torch.float64).values.dtype == torch.float64
        weights = torch.tensor([[1.0, 5, 2], [0, 0, 0.5]])
        assert torch.equal(rows.mix(weights), weights @ table)
        assert rows.transposed is rows.transposed and rows.transposed.is_coalesced()


def test_tables_are_prepared_once_and_anew_for_new_tables() -> None:
    decision = make('dense')
    feature = torch.randn(2, CHANNELS, 1, 1)
    first = decision.prepared_for(feature)
    assert decision.prepared_for(feature) is first
    assert decision.prepared_for(feature.double())['rows'].table.dtype == torch.float64
    tables = dict(decision._tables)
    tables['decisions'] = torch.eye(SIZE)
    decision.set_tables(**tables)
    assert isinstance(decision.prepared_for(feature)['rows'], SparseRows)


def test_a_mixture_of_more_classes_than_stated_is_an_error() -> None:
    decision = make('dense')
    feature = torch.randn(2, CHANNELS, 1, 1, dtype=torch.float64)
    label = torch.zeros(2, CLASSES, dtype=torch.float64)
    label[0, :2], label[1, :3] = 1 / 2, 1 / 3
    decision.mixed_classes = 3
    decision.row_targets(feature, label)
    decision.mixed_classes = 2
    with pytest.raises(DataError, match='at most mixed_classes=2 classes, but got one'):
        decision.row_targets(feature, label)
    with pytest.raises(ConfigError, match='mixed_classes must be a positive integer, but got 0'):
        SubclassDecision(3, mixed_classes=0)


def test_one_dense_table_on_a_device_after_all_uses() -> None:
    decision = make('dense')
    twin = copy.deepcopy(decision)  # as in averaged copies of a model
    loss = TeacherDecisionLoss(decision)
    label = torch.tensor([0, 2])
    feature = torch.randn(2, CHANNELS, 3, 3, device='meta')
    scores = torch.randn(2, SIZE, 3, 3, device='meta', requires_grad=True)
    for dtype in (torch.float32, torch.float16):
        loss(scores, feature.to(dtype), label.to('meta')).backward()
        loss.decision.decide(feature.to(dtype), label.to('meta'))
        twin.decide(feature.to(dtype), label.to('meta'))
    tables = {
        thing.untyped_storage()._cdata
        for thing in gc.get_objects()
        if type(thing) is torch.Tensor and thing.is_meta and thing.shape == (SIZE, SIZE)
    }
    assert len(tables) == 1
