from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from forked import forked, program

WORKER = Path(__file__).with_name('distributed_worker.py')
KINDS = ('unequal', 'one rank without data')
AMOUNTS = ('all', 'sample')


def load_worker():
    spec = importlib.util.spec_from_file_location('distributed_worker', WORKER)
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    return worker


@pytest.fixture(scope='module')
def single(tmp_path_factory, maps_factory):
    """Input and one-process results."""
    folder, worker, maps = tmp_path_factory.mktemp('single'), load_worker(), maps_factory()
    data = {'features': maps.features, 'labels': maps.labels}
    tables = worker.fit(worker.SubclassFitter(6, 4), *maps)
    tables['means'] = torch.randn(6, 5, generator=torch.Generator().manual_seed(3)).double()
    data['given'] = {name: tables[name] for name in ('projection', 'offset', 'means')}
    data['given'].update(centers=tables['centers'], prototypes=tables['prototypes'])
    torch.save(data, folder / 'input.pt')
    return folder, worker.run(folder, 0, 1)


@pytest.fixture(scope='module')
def pools(single, tmp_path_factory):
    """Folder with the results of all ranks of pools of 2 and of 3 processes."""
    folder = tmp_path_factory.mktemp('pools')
    (folder / 'input.pt').write_bytes((single[0] / 'input.pt').read_bytes())
    ended = forked(*(program(WORKER, [folder, rank, 3, 2]) for rank in range(3)))
    assert [code for code, _, _ in ended] == [0] * 3, ended
    # Nothing of the fittings stays, but what was asked to.
    kept = {f'{what} {world}' for what in ('points',) for world in (2, 3)} | {'2 ranks', '3 ranks'}
    assert {path.name for path in folder.iterdir() if path.is_dir()} == kept
    return folder


@pytest.fixture(scope='module', params=[2, 3])
def pool(request, pools):
    """Results of all ranks of a pool of processes."""
    world = request.param
    paths = [pools / f'output_{world}_{rank}.pt' for rank in range(world)]
    return [torch.load(path, weights_only=False) for path in paths]


def assert_same_bits(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        same = torch.equal(value, second[name]) if torch.is_tensor(value) else value == second[name]
        assert same, name


@pytest.mark.parametrize('kind', KINDS)
def test_all_ranks_have_the_same_bits(pool, kind):
    for other in pool[1:]:
        for amount in AMOUNTS:
            for what in ('subclasses', 'centroids'):
                assert_same_bits(pool[0][kind, amount, what], other[kind, amount, what])
        assert_same_bits(pool[0][kind, 'counts'], other[kind, 'counts'])


@pytest.mark.parametrize('amount', AMOUNTS)
@pytest.mark.parametrize('kind', KINDS)
def test_centroids_are_those_of_one_process_bit_for_bit(single, pool, kind, amount):
    expected = single[1][kind, amount, 'centroids']
    assert_same_bits(pool[0][kind, amount, 'centroids'], expected)


@pytest.mark.parametrize('kind', KINDS)
def test_prototypes_and_counts_are_exactly_those_of_one_process(single, pool, kind):
    assert_same_bits(pool[0][kind, 'counts'], single[1][kind, 'counts'])
    for output in pool:
        sparse = output[kind, 'sparse counts']['decisions']
        assert sparse.is_sparse
        assert torch.equal(sparse.to_dense(), single[1][kind, 'counts']['decisions'])


@pytest.mark.parametrize('amount', AMOUNTS)
@pytest.mark.parametrize('kind', KINDS)
def test_sub_class_tables_are_those_of_one_process(single, pool, kind, amount):
    found, expected = pool[0][kind, amount, 'subclasses'], single[1][kind, amount, 'subclasses']
    for name in ('projection', 'offset'):
        assert torch.allclose(found[name], expected[name], rtol=1e-6, atol=1e-6), name
    for name in ('centers', 'prototypes', 'decisions'):
        assert torch.allclose(found[name], expected[name], atol=1e-4), name


def test_the_first_rank_decides_where_others_calculate_otherwise(single, pool):
    """Other ranks may have another LAPACK, of which even the number of directions differs."""
    for output in pool:
        for what in (0, 1):
            assert_same_bits(output['other libraries'][what], pool[0]['other libraries'][what])
    expected = single[1]['unequal', 'all', 'centroids']
    assert_same_bits(pool[0]['other libraries'][1], expected)


def test_an_error_on_one_rank_ends_all(pool):
    assert 'Label 77 is outside' in pool[-1]['error']
    for rank, output in enumerate(pool[:-1]):
        assert f'rank {len(pool) - 1} failed: DataError: Label 77' in output['error'], rank


def test_interrupted_fittings_end_as_an_undisturbed_one(pool):
    for output in pool:
        undisturbed, *broken, resumed = output['again']
        assert len(broken) == 4 and all(isinstance(text, str) for text in broken)
        assert_same_bits(resumed, undisturbed)


def test_ranks_continue_in_the_latest_pass_that_all_have_saved(pool):
    for rank, output in enumerate(pool):
        assert output['points'] == [(0, 5 + rank), (1, 0), (0, 0)]
