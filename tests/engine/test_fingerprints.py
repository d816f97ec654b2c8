"""Fingerprints change with what they stand for, and with nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmpretrain.models import ClsDataPreprocessor
from torch import nn

from mmkdlayer.engine.fingerprints import (
    describe_dataset,
    describe_preprocessor,
    hash_json,
    hash_model,
)
from mmkdlayer.errors import DataError


class ListDataset:
    def __init__(self, infos: list[dict], data_root: str = '') -> None:
        self.infos = infos
        self.data_root = data_root

    def __len__(self) -> int:
        return len(self.infos)

    def get_data_info(self, index: int) -> dict:
        return self.infos[index]


def photos(root: str, labels: tuple[int, ...] = (0, 1)) -> ListDataset:
    infos = [dict(img_path=f'{root}/{i}.jpg', gt_label=label) for i, label in enumerate(labels)]
    return ListDataset(infos, root)


def test_model_hash_sees_weights_and_buffers_but_no_counters() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    first = hash_model(model)
    model[1].num_batches_tracked += 1
    assert hash_model(model) == first
    model[1].running_mean += 1
    second = hash_model(model)
    assert second != first
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] += 1
    assert hash_model(model) not in (first, second)


def test_json_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert hash_json(dict(a=1, b=[2, 3])) == hash_json(dict(b=[2, 3], a=1))
    assert hash_json(dict(a=1)) != hash_json(dict(a=2))


def test_dataset_hash_follows_files_and_labels_not_the_place() -> None:
    first = describe_dataset(photos('/data/here'), 2)
    assert first['images'] == 2
    assert describe_dataset(photos('/data/there'), 2) == first
    assert describe_dataset(photos('/data/here', (1, 0)), 2) != first
    assert describe_dataset(photos('/data/here', (0,)), 2) != first


def test_dataset_hash_of_pixels() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    first = describe_dataset(ListDataset([dict(img=image, gt_label=0)]), 1)
    assert first != describe_dataset(ListDataset([dict(img=image + 1, gt_label=0)]), 1)


def test_dataset_errors() -> None:
    with pytest.raises(DataError, match='no images'):
        describe_dataset(ListDataset([]), 2)
    with pytest.raises(DataError, match='a.jpg .* no gt_label'):
        describe_dataset(ListDataset([dict(img_path='a.jpg')]), 2)
    for label in (2, -1, [0, 1]):
        with pytest.raises(DataError, match=r'0\.jpg .*(has 2 labels|num_classes=2)'):
            describe_dataset(photos('/data', (label,)), 2)  # type: ignore[arg-type]


def test_labels_that_are_not_needed_may_be_missing_or_several() -> None:
    plain = ListDataset([dict(img_path='0.jpg')])
    several = ListDataset([dict(img_path='0.jpg', gt_label=[0, 1])])
    found = [describe_dataset(data, 2, needs_labels=False) for data in (plain, several)]
    assert found[0]['images'] == 1
    assert found[0] != found[1]
    with pytest.raises(DataError, match=r'0\.jpg is 2, .*num_classes=2'):
        describe_dataset(photos('/data', (2,)), 2, needs_labels=False)


def test_preprocessor_description_follows_what_it_does() -> None:
    plain = dict(mean=[1.0, 2.0, 3.0], std=[1.0, 1.0, 1.0])
    first = describe_preprocessor(ClsDataPreprocessor(**plain))
    assert describe_preprocessor(ClsDataPreprocessor(**plain).train()) == first
    assert describe_preprocessor(ClsDataPreprocessor(**dict(plain, mean=[1.0, 2.0, 4.0]))) != first
    assert describe_preprocessor(ClsDataPreprocessor(**plain, to_rgb=True)) != first
