"""The stream of teacher features: which images, which transform, which mode."""

from __future__ import annotations

import pytest
from mmengine.config import ConfigDict
from torch import nn

from mmkdlayer.engine.feature_stream import evaluating, fitting_dataloader_cfg
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
