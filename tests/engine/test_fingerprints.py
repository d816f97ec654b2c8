"""Fingerprints change with what they stand for, and with nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import torch
from mmengine.fileio import BaseStorageBackend, register_backend
from mmengine.registry import init_default_scope
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.registry import DATASETS
from torch import nn

from mmkdlayer.engine.fingerprints import (
    describe_dataset,
    describe_preprocessor,
    file_states,
    hash_json,
    hash_model,
    sampled_paths,
    without_paths,
)
from mmkdlayer.errors import DataError


class ListDataset:
    def __init__(self, infos: list[dict], data_root: str | None = '') -> None:
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


@pytest.mark.parametrize('label', [2.5, 1.0, 'cat', float('nan')])
@pytest.mark.parametrize('needed', [True, False])
def test_a_label_that_is_no_index_is_named(label: object, needed: bool) -> None:
    with pytest.raises(
        DataError, match=rf'label of /data/0\.jpg is {label!r}, .*integer from 0 to 2'
    ):
        describe_dataset(photos('/data', (label,)), 3, needs_labels=needed)  # type: ignore[arg-type]


def write_photos(root: Path, fill: str = 'x') -> Path:
    for index, label in enumerate('ab'):
        path = root / 'train' / label / f'{index}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fill.encode() * (1000 + index))
    return root


def folder(root: Path) -> dict:
    return dict(
        type='CustomDataset',
        data_root=str(root),
        data_prefix='train',
        pipeline=[dict(type='LoadImageFromFile')],
    )


#: What else a data set is wrapped in, given those of two roots.
WRAPPERS: dict[str, Callable[..., dict]] = {
    'plain': lambda first, second: first,
    'repeat': lambda first, second: dict(type='RepeatDataset', times=2, dataset=first),
    'concat': lambda first, second: dict(type='ConcatDataset', datasets=[first, second]),
    'balanced': lambda first, second: dict(
        type='ClassBalancedDataset', oversample_thr=0.1, dataset=first
    ),
    'k-fold': lambda first, second: dict(type='KFoldDataset', num_splits=2, dataset=first),
    'nested': lambda first, second: dict(
        type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[first, second])
    ),
}


def built(config: dict) -> Any:
    init_default_scope('mmpretrain')
    return DATASETS.build(config)


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_the_hash_does_not_depend_on_the_place(wrapper: str, tmp_path: Path) -> None:
    found = []
    for place in ('here', 'over/there'):
        roots = [write_photos(tmp_path / place / name) for name in ('first', 'other')]
        for path in roots[0].glob('*/*/*'):
            os.utime(path, (len(found), len(found)))  # a copy has other times
        found.append(describe_dataset(built(WRAPPERS[wrapper](*map(folder, roots))), 2))
    assert found[0] == found[1]
    write_photos(tmp_path / 'here' / 'first', 'xx')
    changed = built(WRAPPERS[wrapper](folder(tmp_path / 'here/first'), folder(roots[1])))
    assert describe_dataset(changed, 2)['content'] != found[0]['content']


@pytest.mark.parametrize('data_root', ['', None])
def test_whole_paths_in_a_list_count_from_the_folder_they_share(
    data_root: str | None, tmp_path: Path
) -> None:
    found = []
    for place in ('here', 'over/there'):
        paths = sorted(write_photos(tmp_path / place).glob('*/*/*'))
        infos = [dict(img_path=str(path), gt_label=0) for path in paths]
        found.append(describe_dataset(ListDataset(infos, data_root), 1))
        assert describe_dataset(ListDataset(infos[::-1], data_root), 1) != found[-1]
    assert found[0] == found[1]


def test_images_that_were_replaced_under_the_same_names_are_noticed(tmp_path: Path) -> None:
    data = built(folder(write_photos(tmp_path)))
    first = describe_dataset(data, 2)
    write_photos(tmp_path, 'y')  # of the same sizes
    second = describe_dataset(data, 2)
    assert (first['files'], first['images']) == (second['files'], second['images'])
    assert first['content'] != second['content']


def test_files_of_another_backend_are_read_through_it(tmp_path: Path) -> None:
    store: dict[str, bytes] = {'key/0': b'first'}

    class Store(BaseStorageBackend):
        def get(self, filepath: str) -> bytes:
            return store[filepath]

        def get_text(self, filepath: str) -> str:
            return store[filepath].decode()

    register_backend('fingerprint_store', Store, force=True)
    data = ListDataset([dict(img_path='key/0', gt_label=0)])
    args = dict(backend='fingerprint_store')
    first = describe_dataset(data, 1, backend_args=args)
    assert describe_dataset(data, 1, backend_args=args) == first
    store['key/0'] = b'other'
    assert describe_dataset(data, 1, backend_args=args)['content'] != first['content']
    assert file_states(data) == {'key/0': None}


def test_samples_are_bounded_and_evenly_spaced() -> None:
    data = ListDataset([dict(img_path=str(index)) for index in range(1001)])
    assert sampled_paths(data, 2000) == [str(index) for index in range(1001)]
    sample = sampled_paths(data, 100)
    assert len(sample) <= 100 and sample[:3] == ['0', '11', '22']


def test_places_in_configs_do_not_count() -> None:
    def config(place: str) -> dict:
        weights = dict(type='Pretrained', checkpoint=f'{place}/w.pth')
        steps = [dict(type='LoadImageFromFile', backend_args=dict(backend='lmdb', db_path=place))]
        return dict(depth=18, init_cfg=weights, pretrained=place, steps=steps, cfg=f'{place}/c.py')

    assert without_paths(config('/here')) == without_paths(config('/there'))
    assert without_paths(dict(config('/here'), depth=34)) != without_paths(config('/here'))


def test_preprocessor_description_follows_what_it_does() -> None:
    plain = dict(mean=[1.0, 2.0, 3.0], std=[1.0, 1.0, 1.0])
    first = describe_preprocessor(ClsDataPreprocessor(**plain))
    assert describe_preprocessor(ClsDataPreprocessor(**plain).train()) == first
    assert describe_preprocessor(ClsDataPreprocessor(**dict(plain, mean=[1.0, 2.0, 4.0]))) != first
    assert describe_preprocessor(ClsDataPreprocessor(**plain, to_rgb=True)) != first
