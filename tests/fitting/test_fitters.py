from __future__ import annotations

import pytest
import torch

from mmkdlayer.errors import DataError
from mmkdlayer.fitting import CentroidFitter, SubclassFitter, fit_centroids, run_fitters


class Named:
    """Batches of two layers; counts how often it was gone through."""

    def __init__(self, maps):
        self.parts = maps.batches(50)
        self.passes = 0

    def __len__(self):
        return len(self.parts)

    def __iter__(self):
        self.passes += 1
        for features, labels in self.parts:
            yield {'inter': features, 'penult': 2 * features}, labels


class Bars:
    """A progress that writes down what it is told."""

    def __init__(self):
        self.seen = []

    def __call__(self, *, desc, total):
        bar = [desc, total, 0, False]
        self.seen.append(bar)

        class Bar:
            def update(self, n=1):
                bar[2] += n

            def close(self):
                bar[3] = True

        return Bar()


def test_one_pass_feeds_all_fitters_and_results_come_as_soon_as_they_can(maps):
    batches, arrived = Named(maps), []
    results = run_fitters(
        batches,
        {'inter': SubclassFitter(6, 4), 'penult': CentroidFitter(9)},
        on_result=lambda name, decision: arrived.append((name, batches.passes, decision)),
    )
    assert batches.passes == 2
    assert [(name, passes) for name, passes, _ in arrived] == [('penult', 1), ('inter', 2)]
    assert results == {name: decision for name, _, decision in arrived}
    doubled = maps._replace(features=2 * maps.features)
    alone = fit_centroids(doubled.batches(50), 9)
    assert torch.equal(results['penult'].centroids, alone.centroids)


def test_every_stage_has_a_bar_that_is_filled_and_closed(maps):
    bars = Bars()
    fitters = {
        'inter': SubclassFitter(6, 4),
        'penult': CentroidFitter(9, iterations=2),
    }
    run_fitters(Named(maps), fitters, bars)
    stages = [(desc, total) for desc, total, _, _ in bars.seen]
    assert stages[0] == ('teacher pass 1 of 2', 3)
    assert ('k-means', 2) in stages
    assert ('decision table', 3) in stages
    assert all(done == total and closed for _, total, done, closed in bars.seen)


def test_tqdm_fits(maps, capsys):
    tqdm = pytest.importorskip('tqdm', reason='mmengine brings tqdm only with some versions').tqdm
    fit_centroids(maps.batches(50), 9, progress=tqdm)
    assert 'teacher pass 1 of 1: 100%' in capsys.readouterr().err


def test_the_callers_precision_and_gradients_are_left_alone(maps):
    torch.set_float32_matmul_precision('medium')
    try:
        features = maps.features.clone().requires_grad_()
        with torch.autocast('cpu', dtype=torch.bfloat16):
            mixed = fit_centroids([(features, maps.labels)], 9).centroids
        assert torch.get_float32_matmul_precision() == 'medium'
    finally:
        torch.set_float32_matmul_precision('highest')
    assert torch.is_grad_enabled()
    assert torch.equal(mixed, fit_centroids([(maps.features, maps.labels)], 9).centroids)


def test_disk_and_memory_are_released_on_errors(maps, tmp_path):
    class Broken(Named):
        def __iter__(self):
            yield from super().__iter__()
            if self.passes == 2:
                assert list(tmp_path.iterdir()) != []
                raise OSError('image 7 cannot be read')

    fitter = SubclassFitter(6, 4, cache_dir=str(tmp_path))
    with pytest.raises(OSError, match='image 7'):
        run_fitters(Broken(maps), {'inter': fitter})
    assert list(tmp_path.iterdir()) == []


def test_a_missing_layer_is_refused(maps):
    with pytest.raises(DataError, match="'head'.*'inter', 'penult'"):
        run_fitters(Named(maps), {'head': CentroidFitter(9)})


def test_room_is_made_once_where_the_number_of_batches_is_known(maps):
    """So that nothing is copied, and a few images take little of a large memory_budget."""
    rooms = set()

    class Watched(CentroidFitter):
        def _add(self, pass_index, positions, labels):
            super()._add(pass_index, positions, labels)
            rooms.add(len(self._sample._rows))

    batches = maps.batches(50) * 9  # of 6 positions
    run_fitters(batches, {'penult': Watched(9, memory_budget=1 << 40)})
    assert rooms == {len(batches) * 50 * 6}
