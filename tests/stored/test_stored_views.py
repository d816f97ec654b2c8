"""The training set on stored decisions."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.dataset import BaseDataset, ClassBalancedDataset, RepeatDataset
from stored_training import DrawnImages, drawn_config, store_of

from mmkdlayer.errors import DataError, StoreError
from mmkdlayer.models.labels import STORED
from mmkdlayer.stored import StoredViews
from mmkdlayer.stored.stored_views import unrepeated

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')


@pytest.fixture(scope='module')
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('stores')
    return store_of(folder / 'store', drawn_config(folder))


def test_gives_what_is_stored_of_the_view(store: Path) -> None:
    dataset = StoredViews(DrawnImages(), store)
    dataset.epoch.fill_(3)
    expected = dataset.store.read(1, 5)
    found = dataset[5]['data_samples'].get(STORED)
    assert 'hash' not in found
    assert set(found) == {'inter.rows', 'penult.rows', 'penult.probabilities'}
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name])


def test_an_index_may_say_the_epoch(store: Path) -> None:
    dataset = StoredViews(DrawnImages(), store)
    first = dataset[5]['inputs']
    assert not dataset[5 + len(dataset)]['inputs'].equal(first)
    dataset.epoch.fill_(1)
    assert dataset[5 + len(dataset)]['inputs'].equal(first)


def test_answers_as_the_data_set_that_it_renders(store: Path) -> None:
    dataset = pickle.loads(pickle.dumps(StoredViews(DrawnImages(), store)))
    assert len(dataset) == 12
    assert dataset.metainfo == DrawnImages.metainfo
    assert dataset.get_data_info(3)['img_path'] == '3.png'
    assert dataset.get_cat_ids(0) == [0]
    with pytest.raises(AttributeError):
        dataset.nothing  # noqa: B018


def test_a_view_that_is_drawn_in_another_way_is_refused(store: Path) -> None:
    class Brighter(DrawnImages):
        def __getitem__(self, index: int) -> dict:
            found = super().__getitem__(index)
            found['inputs'] = found['inputs'] + (index == 4)
            return found

    dataset = StoredViews(Brighter(), store)
    dataset[3]
    with pytest.raises(DataError, match=r'View 0 of image 4 of the training set \(4.png\) is not'):
        dataset[4]


def test_another_number_of_images_is_refused(store: Path) -> None:
    with pytest.raises(StoreError, match='are of 12 images, but the training set has 11'):
        StoredViews(DrawnImages(length=11), store)


class Listed(BaseDataset):
    def load_data_list(self) -> list[dict[str, Any]]:
        return [dict(label=label) for label in (0, 1, 1, 1, 1)]

    def get_cat_ids(self, index: int) -> list[int]:
        return [self.get_data_info(index)['label']]


def test_turns_of_repeated_images_by_loops() -> None:
    base = Listed()
    assert unrepeated(base) == (base, None)
    for wrapper in (RepeatDataset(base, 3), ClassBalancedDataset(base, 0.5)):
        order = [wrapper._get_ori_dataset_idx(index) for index in range(len(wrapper))]
        assert len(order) > len(base)
        expected = [(i, order[:n].count(i), order.count(i)) for n, i in enumerate(order)]
        found, places = unrepeated(wrapper)
        assert found is base
        assert [tuple(row) for row in places] == expected
