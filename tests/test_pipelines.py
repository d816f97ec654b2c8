"""Pipelines inside the configs of data sets and their wrappers."""

from __future__ import annotations

import pytest
from mmengine.config import ConfigDict

from mmkdlayer.errors import ConfigError
from mmkdlayer.pipelines import (
    backend_args_of,
    find_pipeline,
    find_pipelines,
    fitting_dataloader_cfg,
    replace_pipeline,
    split_loading,
)

INNER = dict(type='CustomDataset', data_root='r', pipeline=[dict(type='A')])
TRAIN = dict(
    batch_size=4,
    num_workers=3,
    dataset=dict(type='RepeatDataset', times=2, dataset=dict(type='D', pipeline=['flip'])),
    sampler=dict(type='RepeatAugSampler', shuffle=True),
    drop_last=True,
)
VAL = dict(batch_size=8, dataset=dict(type='V', pipeline=['resize']), collate_fn=dict(type='c'))


def test_find_looks_into_wrappers() -> None:
    assert find_pipeline(INNER) == [dict(type='A')]
    assert find_pipeline(dict(type='RepeatDataset', times=2, dataset=INNER)) == [dict(type='A')]
    assert find_pipeline(dict(type='ConcatDataset', datasets=[INNER, INNER])) == [dict(type='A')]
    assert find_pipeline(dict(type='CustomDataset')) is None
    assert find_pipeline(None) is None


def test_replace_changes_every_pipeline_and_nothing_else() -> None:
    wrapped = dict(type='ConcatDataset', datasets=[INNER, dict(INNER, data_root='s')])
    new = replace_pipeline(wrapped, [dict(type='B')])
    assert [d['pipeline'] for d in new['datasets']] == [[dict(type='B')]] * 2
    assert [d['data_root'] for d in new['datasets']] == ['r', 's']
    assert wrapped['datasets'][0]['pipeline'] == [dict(type='A')]


def test_loader_reads_training_images_in_order_with_the_test_transform() -> None:
    loader = fitting_dataloader_cfg(ConfigDict(train_dataloader=TRAIN, val_dataloader=VAL))
    assert loader.dataset.dataset == dict(type='D', pipeline=['resize'])
    assert loader.sampler == dict(type='DefaultSampler', shuffle=False, round_up=False)
    assert (loader.batch_size, loader.num_workers, loader.drop_last) == (8, 3, False)
    assert loader.collate_fn == dict(type='c')


def test_images_are_loaded_as_the_training_set_loads_them() -> None:
    gray = dict(type='LoadImageFromFile', color_type='grayscale', backend_args=dict(backend='lmdb'))
    plain, flip, crop, pack = (dict(type=t) for t in ('LoadImageFromFile', 'Flip', 'Crop', 'Pack'))
    train = dict(
        type='ConcatDataset',
        datasets=[
            dict(type='Photos', pipeline=[gray, flip, pack]),
            dict(type='Arrays', pipeline=[flip, pack]),
        ],
    )
    new = replace_pipeline(train, [plain, crop, pack])
    assert list(find_pipelines(new)) == [[gray, crop, pack], [crop, pack]]
    assert list(find_pipelines(train))[0] == [gray, flip, pack]
    other = dict(type='Before')
    assert split_loading([other, plain, gray, crop]) == ([other, plain, gray], [crop])
    assert split_loading([crop, pack]) == ([], [crop, pack])
    assert backend_args_of(find_pipelines(new)) == dict(backend='lmdb')
    assert backend_args_of([[plain, crop]]) is None


@pytest.mark.parametrize('given', [dict(train_dataloader=TRAIN), dict(val_dataloader=VAL)])
def test_missing_loader_is_an_error(given: dict) -> None:
    with pytest.raises(ConfigError, match='train_dataloader.*val_dataloader'):
        fitting_dataloader_cfg(ConfigDict(given))
