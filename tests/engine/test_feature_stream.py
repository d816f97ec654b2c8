"""The stream of teacher features: which images, which transform, which mode."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import ConfigDict
from torch import nn

from mmkdlayer.engine.feature_stream import (
    FeatureStream,
    evaluating,
    fitting_dataloader_cfg,
)
from mmkdlayer.errors import ConfigError

TRAIN = dict(
    batch_size=4,
    num_workers=3,
    dataset=dict(type='RepeatDataset', times=2, dataset=dict(type='D', pipeline=['flip'])),
    sampler=dict(type='RepeatAugSampler', shuffle=True),
    drop_last=True,
)
VAL = dict(batch_size=8, dataset=dict(type='V', pipeline=['resize']), collate_fn=dict(type='c'))


def test_loader_reads_training_images_in_order_with_the_test_transform() -> None:
    loader = fitting_dataloader_cfg(ConfigDict(train_dataloader=TRAIN, val_dataloader=VAL))
    assert loader.dataset.dataset == dict(type='D', pipeline=['resize'])
    assert loader.sampler == dict(type='DefaultSampler', shuffle=False, round_up=False)
    assert (loader.batch_size, loader.num_workers, loader.drop_last) == (8, 3, False)
    assert loader.collate_fn == dict(type='c')


class CountedImages(torch.utils.data.Dataset):
    """Numbers as images; remembers which have been read."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> int:
        self.read.append(index)
        return index


@pytest.mark.parametrize('done', [0, 1, 3])
def test_a_later_start_gives_the_rest_without_reading_the_beginning(done: int) -> None:
    images = CountedImages()
    sampler, collate = dict(type='DefaultSampler', shuffle=False), dict(type='default_collate')
    loader = ConfigDict(dataset=images, batch_size=3, sampler=sampler, collate_fn=collate)
    stream = FeatureStream(None, {}, loader)
    stream.features = lambda batch: batch.tolist()  # the teacher is not what this is about
    seen = list(stream.starting_at(done))
    assert seen == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]][done:]
    assert stream.dataset.read == list(range(3 * done, 10))
    assert list(stream) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]


@pytest.mark.parametrize('given', [dict(train_dataloader=TRAIN), dict(val_dataloader=VAL)])
def test_missing_loader_is_an_error(given: dict) -> None:
    with pytest.raises(ConfigError, match='train_dataloader.*val_dataloader'):
        fitting_dataloader_cfg(ConfigDict(given))


def test_modes_come_back_as_they_were() -> None:
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)).train()
    model[1].eval()
    with pytest.raises(KeyError), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise KeyError
    assert [module.training for module in model.modules()] == [True, True, False]
