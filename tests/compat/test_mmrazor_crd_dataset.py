"""mmrazor's CRDDataset on classes of unequal sizes."""

from __future__ import annotations

import numpy as np
import pytest

from mmkdlayer.compat.mmrazor_crd_dataset import RaggedNumpy

pytest.importorskip('mmrazor', reason='it fixes a data set of mmrazor')

DATASET = """
import {first}
import numpy as np
from mmengine.dataset import BaseDataset
from mmrazor.datasets import CRDDataset

class Images(BaseDataset):
    def load_data_list(self):
        return [dict(gt_label=label) for label in {labels}]

    def get_gt_labels(self):
        return np.array([self.get_data_info(index)['gt_label'] for index in range(len(self))])

data = CRDDataset(Images(pipeline=[]), neg_num=3, percent=1)
for index in range(len(data)):
    item = data[index]
    positive, *negative = item['contrast_sample_idxs']
    assert positive == index
    assert all({labels}[other] != {labels}[index] for other in negative)
print('good', len(data), type(data.cls_negative).__name__, __import__('numpy').asarray is np.asarray)
"""


@pytest.mark.parametrize('labels', [[0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 2]])
def test_negatives_are_of_other_classes(run_script, labels: list) -> None:
    printed = run_script(DATASET.format(first='mmkdlayer', labels=labels))
    assert printed.splitlines()[-1] == 'good 6 ndarray True'


def test_ragged_rows() -> None:
    ragged = RaggedNumpy()
    assert ragged.asarray([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    rows = ragged.asarray([np.array([1, 2]), np.array([3])])
    assert rows.dtype == object
    assert [row.tolist() for row in rows] == [[1, 2], [3]]
    with pytest.raises(ValueError, match='inhomogeneous'):
        ragged.asarray([[1, 2], [3]], dtype=float)
    assert ragged.hstack is np.hstack
