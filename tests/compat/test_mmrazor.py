"""Modules of mmrazor with today's mmcv, numpy and Python."""

from __future__ import annotations

import sys
import types
from typing import Callable

import mmcv
import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmpretrain.structures import DataSample
from simulated_cuda.device import SimulatedCuda

from mmkdlayer.compat.mmrazor import (
    RECURSIVE,
    RaggedNumpy,
    lower_raised_limit,
    run_with_known_mmcv,
)

REFUSES_OTHERS = """
import mmcv
from mmengine.utils import digit_version
assert digit_version('2.0.0') <= digit_version(mmcv.__version__) <= digit_version('2.1.0')
seen = mmcv.__version__
"""


@pytest.mark.parametrize(
    ('installed', 'seen'),
    [('2.0.1', '2.0.1'), ('2.1.0', '2.1.0'), ('2.2.0', '2.1.0'), ('2.3.6', '2.1.0')],
)
def test_mmrazor_sees_no_version_that_it_refuses(
    monkeypatch: pytest.MonkeyPatch, installed: str, seen: str
) -> None:
    monkeypatch.setattr(mmcv, '__version__', installed)
    module = types.ModuleType('mmrazor')
    run_with_known_mmcv(module, lambda module: exec(REFUSES_OTHERS, vars(module)))
    assert module.seen == seen
    assert mmcv.__version__ == installed


def test_the_version_is_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmcv, '__version__', '2.2.0')

    def fail(module: types.ModuleType) -> None:
        raise ImportError('something else')

    with pytest.raises(ImportError, match='something else'):
        run_with_known_mmcv(types.ModuleType('mmrazor'), fail)
    assert mmcv.__version__ == '2.2.0'


IMPORT = """
import sys
import mmcv
mmcv.__version__ = '2.2.0'
sys.setrecursionlimit(1234)
import mmkdlayer, mmrazor.models
assert all(name in sys.modules for name in sys.argv[1:])
print(mmcv.__version__, sys.getrecursionlimit())
print(mmkdlayer.models.KDLayerDistiller.__mro__[1].__module__.split('.')[0])
"""


def test_it_imports_with_a_newer_mmcv_and_leaves_the_recursion_limit(
    run_script: Callable[..., str],
) -> None:
    pytest.importorskip('mmrazor')
    assert run_script(IMPORT, *RECURSIVE).split()[-3:] == ['2.2.0', '1234', 'mmrazor']


@pytest.mark.parametrize(
    ('limit', 'module', 'lowered'),
    [(2**20, RECURSIVE[0], 1000), (2**20, 'another', 2**20), (5000, RECURSIVE[1], 5000)],
)
def test_a_limit_that_mmrazor_raised_before(limit, module, lowered, monkeypatch):
    for name in RECURSIVE:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(limit)
    try:
        lower_raised_limit()
        assert sys.getrecursionlimit() == lowered
    finally:
        sys.setrecursionlimit(before)


class Images(BaseDataset):
    def __init__(self, labels: list[int]) -> None:
        self.labels = labels
        super().__init__(pipeline=[])

    def load_data_list(self) -> list[dict]:
        return [dict(gt_label=label) for label in self.labels]

    def get_gt_labels(self) -> np.ndarray:
        return np.array(self.labels)


@pytest.mark.parametrize('labels', [[0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 2]])
def test_negatives_are_of_other_classes(labels: list[int]) -> None:
    datasets = pytest.importorskip('mmrazor.datasets', reason='it fixes a data set of mmrazor')
    data = datasets.CRDDataset(Images(labels), neg_num=3, percent=1)
    assert len(data) == 6 and type(data.cls_negative) is np.ndarray
    for index in range(len(data)):
        positive, *negative = data[index]['contrast_sample_idxs']
        assert positive == index
        assert all(labels[other] != labels[index] for other in negative)


def test_ragged_rows() -> None:
    ragged = RaggedNumpy()
    assert ragged.asarray([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    rows = ragged.asarray([np.array([1, 2]), np.array([3])])
    assert rows.dtype == object
    assert [row.tolist() for row in rows] == [[1, 2], [3]]
    with pytest.raises(ValueError, match='inhomogeneous'):
        ragged.asarray([[1, 2], [3]], dtype=float)
    assert ragged.hstack is np.hstack


@pytest.mark.parametrize('given', [True, False])
def test_numbers_of_the_host_find_the_memory_on_the_device(given: bool) -> None:
    pytest.importorskip('mmrazor', reason='it fixes a loss of mmrazor')
    from mmrazor.models.losses import CRDLoss

    features = torch.randn(2, 2, 8)
    samples = []
    for index in range(2):
        numbers = dict(sample_idx=torch.tensor(index))
        if given:
            numbers['contrast_sample_idxs'] = torch.tensor([index, 3, 4, 5])
        sample = DataSample()
        sample.set_data(numbers)
        samples.append(sample)
    loss = CRDLoss(neg_num=3, sample_n=6, dim_out=8)
    torch.manual_seed(1)
    expected = CRDLoss(neg_num=3, sample_n=6, dim_out=8)
    expected.load_state_dict(loss.state_dict())
    torch.manual_seed(0)
    value = expected(*features, samples)
    with SimulatedCuda() as cuda:
        torch.manual_seed(0)
        found = loss.to('cuda')(*features.to('cuda'), samples)
        assert found.is_cuda
        assert cuda.found('mix') == []
    torch.testing.assert_close(found, value)
