from __future__ import annotations

import itertools

import pytest
import torch
from fitted_tables import fit_from

from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.fitting import SubclassFitter, decision_table, fit_subclasses, projected_features

NAMES = ['ant', 'bee', 'cat', 'dog', 'eel', 'fox']


def fit(batches, *args, **options):
    return fit_from(batches, SubclassFitter(*args, **options))


def exact_z(maps, tables):
    """The projected features themselves, in float64; the fitter stores them to about 1e-7."""
    rows, labels = maps.positions()
    return rows @ tables['projection'].double().t() + tables['offset'].double(), labels


def brute_force(z, labels, centers, prototypes):
    own_distances = torch.cdist(z, centers.double(), compute_mode='donot_use_mm_for_euclid_dist')
    per_class = len(centers) // 6
    foreign = torch.arange(len(centers)) // per_class != labels[:, None]
    own = own_distances.masked_fill(foreign, torch.inf).argmin(1)
    counts = torch.zeros(len(centers), len(centers), dtype=torch.float64)
    for a, point in zip(own.tolist(), z):
        counts[a, int((prototypes.double() - point).square().sum(1).argmin())] += 1
    means = torch.stack([z[own == a].mean(0) for a in range(len(centers))])
    return counts / counts.sum(1, keepdim=True), means


@pytest.mark.parametrize('budget', [1 << 20, 6 * 32 * 40])
def test_tables_equal_a_brute_force_count_with_all_or_some_points_clustered(maps, budget):
    tables = fit(maps.batches(25), 6, 4, 5, memory_budget=budget)
    z, labels = exact_z(maps, tables)
    decisions, means = brute_force(z, labels, tables['centers'], tables['prototypes'])
    assert torch.allclose(tables['prototypes'].double(), means, atol=1e-6)
    assert torch.equal(tables['decisions'], decisions.float())
    assert {name: tuple(table.shape) for name, table in tables.items()} == {
        'projection': (5, 12),
        'offset': (5,),
        'centers': (24, 5),
        'decisions': (24, 24),
        'prototypes': (24, 5),
    }


@pytest.mark.parametrize('budget', [1 << 20, 6 * 32 * 40])
@pytest.mark.parametrize(('size', 'seed'), [(1, 1), (13, 2), (120, 3)])
def test_any_batches_in_any_order_give_the_same_tables(maps, budget, size, seed):
    whole = fit(maps.batches(120), 6, 4, 5, memory_budget=budget)
    parts = fit(maps.batches(size, seed), 6, 4, 5, memory_budget=budget)
    for name in ('projection', 'offset', 'centers', 'prototypes'):
        assert torch.allclose(whole[name], parts[name], rtol=1e-5, atol=1e-5), name
    assert torch.equal(whole['decisions'], parts['decisions'])


def test_the_seed_decides(maps):
    first, again, other = (
        fit(maps.batches(50), 6, 4, 5, seed=seed)['centers'] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_decision_holds_the_tables_and_the_cache_is_gone(maps, tmp_path):
    decision = fit_subclasses(maps.batches(50), 6, 4, cache_dir=str(tmp_path), seed=3)
    tables = fit(maps.batches(50), 6, 4, seed=3)
    for name in ('projection', 'offset', 'centers', 'decisions', 'prototypes'):
        assert torch.equal(getattr(decision, name), tables[name]), name
    assert decision.num_classes == 6
    assert decision.projection.shape == (5, 12)
    assert list(tmp_path.iterdir()) == []


def test_classes_with_few_distinct_positions_keep_valid_rows(maps):
    features = maps.features.clone()
    features[maps.labels == 2] = features[maps.labels == 2][:1, :, :1, :1]
    batches = maps._replace(features=features).batches(50)
    with pytest.warns(UserWarning, match=r"2 \('cat'\).*fewer distinct"):
        tables = fit(batches, 6, 4, class_names=NAMES)
    rows = tables['decisions']
    assert torch.allclose(rows.sum(1), torch.ones(24))
    assert (rows[9:12].amax(1) == 1).all()


def test_labels_out_of_range_are_named(maps):
    for wrong in (6, -1):
        labels = maps.labels.clone()
        labels[7] = wrong
        with pytest.raises(DataError, match=f'Label {wrong} is outside of the 6 classes'):
            fit_subclasses([(maps.features, labels)], 6)
    with pytest.raises(DataError, match='120 class indices'):
        fit_subclasses([(maps.features, torch.rand(120, 6))], 6)


def test_empty_and_small_classes_are_named(maps):
    with pytest.raises(DataError, match=r'No image of class 6, 7, 8, 9, 10 and 1 more'):
        fit_subclasses(maps.batches(50), 12)
    batches = maps._replace(labels=maps.labels.where(maps.labels != 3, 2)).batches(50)
    with pytest.raises(DataError, match=r"No image of class 3 \('dog'\)"):
        fit_subclasses(batches, 6, class_names=NAMES)
    with pytest.raises(DataError, match=r"Class 0 \('ant'\), .*121.*\(the first has 120\)"):
        fit_subclasses(maps.batches(50), 6, 121, class_names=NAMES)


@pytest.mark.parametrize('sparse', [False, True])
def test_an_empty_class_is_allowed_on_request_and_changes_no_other(maps, monkeypatch, sparse):
    """As on a fold that lacks a class: its sub-classes are nobody's nearest, and all is finite."""
    if sparse:
        monkeypatch.setattr(decision_table, 'DENSE_BYTES', 0)
    batches = maps._replace(labels=maps.labels % 5).batches(50)
    expected = fit_subclasses(batches, 5, 3)
    with pytest.warns(UserWarning, match=r"No image of class 5 \('fox'\).* stay unused"):
        found = fit_subclasses(batches, 6, 3, class_names=NAMES, small_classes=True)
    for name in ('projection', 'offset'):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    for name in ('centers', 'prototypes'):
        assert torch.equal(getattr(found, name)[:15], getattr(expected, name))
        assert torch.isfinite(getattr(found, name)).all()
    table = found.decisions.to_dense() if sparse else found.decisions
    other = expected.decisions.to_dense() if sparse else expected.decisions
    assert torch.equal(table[:15, :15], other)
    assert table[:15, 15:].sum() == 0
    assert torch.equal(table[15:, 15:], torch.eye(3))  # each decides for itself
    for labels in (maps.labels % 5, torch.full((120,), 5)):
        decided = found.decide(maps.features, labels)
        assert torch.isfinite(decided).all()
        torch.testing.assert_close(decided.sum(1), torch.ones(120, 3, 2))


def test_a_class_with_few_positions_is_allowed_on_request(maps):
    keep = (maps.labels != 2) | (maps.labels.eq(2).cumsum(0) == 1)  # one image, of 6 positions
    batches = type(maps)(maps.features[keep], maps.labels[keep]).batches(50)
    with pytest.raises(DataError, match=r'2 .*the first has 6.*small_classes=True'):
        fit_subclasses(batches, 6, 8)
    with pytest.warns(UserWarning, match='2 has fewer distinct positions'):
        found = fit_subclasses(batches, 6, 8, small_classes=True)
    for name in ('centers', 'prototypes', 'decisions'):
        assert torch.isfinite(getattr(found, name)).all()
    torch.testing.assert_close(found.decisions.sum(1), torch.ones(48))


def test_other_data_in_the_second_pass_is_refused(maps):
    with pytest.raises(DataError, match=r'gave 0 positions, the first 720'):
        fit_subclasses(iter(maps.batches(50)), 6)


def test_a_damaged_cache_is_refused_and_removed(maps, tmp_path, monkeypatch):
    never_the_same = itertools.count()
    monkeypatch.setattr(projected_features.zlib, 'crc32', lambda data: next(never_the_same))
    with pytest.raises(DataError, match='checksum'):
        fit_subclasses(maps.batches(50), 6, cache_dir=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_bad_options_are_refused(maps, tmp_path):
    with pytest.raises(ConfigError, match='num_classes of 2 or more'):
        SubclassFitter(1)
    with pytest.raises(ConfigError, match='6 names for num_classes=5'):
        SubclassFitter(5, class_names=NAMES)
    with pytest.raises(ConfigError, match='nowhere'):
        SubclassFitter(6, cache_dir=str(tmp_path / 'nowhere'))
    with pytest.raises(ConfigError, match='memory_budget'):
        fit_subclasses(maps.batches(50), 6, memory_budget=100)
