"""Fitting from features on a simulated device: no mix, and the tables of a CPU."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Callable
from unittest import mock

import pytest
import torch
from torch import Tensor

from mmkdlayer.fitting import CentroidFitter, SubclassFitter, decision_table, run_fitters
from mmkdlayer.fitting.saved_state import SavedState
from simulated_cuda.device import SimulatedCuda

CLASSES, CHANNELS, IMAGES = 4, 8, 40


def make_maps() -> tuple[Tensor, Tensor]:
    """Maps (B, D, 3, 2) of classes that have patterns of their own, and labels (B,)."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(IMAGES) % CLASSES
    means = torch.randn(CLASSES, CHANNELS, generator=generator)[labels][:, :, None, None]
    noise = torch.randn(IMAGES, CHANNELS, 3, 2, generator=generator)
    return means + noise.relu(), labels


def batches(device: str) -> list[tuple[Tensor, Tensor]]:
    return [(f.to(device), y.to(device)) for f, y in zip(*(t.split(7) for t in make_maps()))]


def subclasses(**options: Any) -> SubclassFitter:
    return SubclassFitter(CLASSES, 3, 4, **options)


CASES: dict[str, Callable[[], Any]] = {
    'centroids': lambda: CentroidFitter(9),
    'sampled centroids': lambda: CentroidFitter(9, memory_budget=4000, streaming_passes=1),
    'pooled': lambda: CentroidFitter(9, size=(1, 1)),
    'many centroids': lambda: CentroidFitter(150),
    'more centroids than points': lambda: CentroidFitter(239),
    'sub-classes': subclasses,
    'sampled sub-classes': lambda: subclasses(memory_budget=1200),
    'sparse table': subclasses,
}


def tables_of(decision: Any) -> dict[str, Tensor]:
    tables = dict(decision._tables)
    return {name: t.to_dense() if t.is_sparse else t for name, t in tables.items()}


@pytest.mark.parametrize('name', CASES)
def test_tables_are_those_of_the_cpu(name: str, cuda: SimulatedCuda) -> None:
    limit = 0 if name == 'sparse table' else decision_table.DENSE_BYTES
    with mock.patch.object(decision_table, 'DENSE_BYTES', limit), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        expected = run_fitters(batches('cpu'), {'x': CASES[name]()})['x']
        found = run_fitters(batches('cuda'), {'x': CASES[name]()})['x']
    assert cuda.found('mix') == []
    assert found.num_templates == expected.num_templates
    for table, value in tables_of(expected).items():
        assert not tables_of(found)[table].is_cuda
        torch.testing.assert_close(
            tables_of(found)[table], value, rtol=1e-5, atol=1e-5, msg=f'{name}: {table}'
        )


class Interrupted(list):
    """Batches that end with an error, once."""

    def __init__(self, items: Any, at: int) -> None:
        super().__init__(items)
        self.left = at

    def __iter__(self) -> Any:
        for item in super().__iter__():
            if not self.left:
                raise KeyError('interrupted')
            self.left -= 1
            yield item


@pytest.mark.parametrize('at', [3, 8])  # in the first pass, in the second
@pytest.mark.parametrize('name', ['sampled centroids', 'sub-classes'])
def test_an_interrupted_fitting_goes_on_where_it_was(
    name: str, at: int, cuda: SimulatedCuda, tmp_path: Path
) -> None:
    options = {} if 'cent' in name else dict(cache_dir=str(tmp_path), cache_name='features.bin')
    make = (lambda: subclasses(**options)) if options else CASES[name]
    expected = run_fitters(batches('cuda'), {'x': CASES[name]()})['x']
    saved = SavedState(tmp_path / 'state', 'same', interval=0)
    with pytest.raises(KeyError):
        run_fitters(Interrupted(batches('cuda'), at), {'x': make()}, saved=saved)
    again = SavedState(tmp_path / 'state', 'same', interval=0)
    found = run_fitters(batches('cuda'), {'x': make()}, saved=again)['x']
    assert cuda.found('mix') == []
    for table, value in tables_of(expected).items():
        assert torch.equal(tables_of(found)[table], value), table
