"""What a training would fail on later is said before it, from the training set."""

from __future__ import annotations

import random
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, Callable

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler, pseudo_collate
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmkdlayer.engine.data_checks import check_batches, check_training_data
from mmkdlayer.errors import ConfigError, DataError


class Images:
    """Images of 16x16, each drawn with all three random number generators."""

    def __init__(self, count: int = 9, classes: int = 3, labelled: bool = True) -> None:
        self.count, self.labelled = count, labelled
        self.metainfo = dict(classes=[f'class {index}' for index in range(classes)])

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        pixels = random.random() + np.random.rand() + torch.rand(3, 16, 16)  # noqa: NPY002
        sample = DataSample()
        return dict(inputs=pixels, data_samples=sample.set_gt_label(0) if self.labelled else sample)


def loader(dataset: Any = None, batch_size: int = 4, **options: Any) -> DataLoader:
    dataset = dataset or Images()
    sampler = options.pop('sampler', DefaultSampler)(dataset)
    return DataLoader(dataset, batch_size, sampler=sampler, collate_fn=pseudo_collate, **options)


@pytest.fixture
def student(classifier_config: Callable[..., dict], kd_layer_configs: Callable[..., dict]) -> Any:
    """A student with KD layers, whose last map is 4x4, or 1x1 after another stride."""

    def build(last_map: int = 4, **preprocessor: Any) -> nn.Module:
        config = classifier_config(type='mmkdlayer.KDLayerClassifier', kd_layers=kd_layer_configs())
        config['backbone']['strides'] = (1, 2, 2) if last_map == 4 else (4, 2, 2)
        if preprocessor:
            config['data_preprocessor'] = dict(preprocessor)
        return MODELS.build(config)

    return build


def test_a_training_that_runs_is_left_alone(student: Any) -> None:
    model, images = student().train(), loader()
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    assert check_training_data(model, images) == []
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


@pytest.mark.parametrize(('batch_size', 'words'), [(4, r'9 in batches of 4'), (1, 'Each batch')])
def test_one_image_with_a_map_of_one_position(student: Any, batch_size: int, words: str) -> None:
    model = student(last_map=1)
    with pytest.raises(ConfigError, match=f'{words}.*there backbone.layer3.*drop_last=True'):
        check_training_data(model, loader(batch_size=batch_size))
    # What it foresees.
    one = torch.rand(1, 3, 16, 16), [DataSample().set_gt_label(0)]
    with pytest.raises(ValueError, match='more than 1 value per channel'):
        model.train()(*one, mode='loss')


def test_the_kd_layer_alone_is_given_one_value(student: Any) -> None:
    model = student(last_map=1)
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and 'kd_layers' not in name:
            module.train = lambda mode=True: None  # frozen, as with norm_eval
            module.training = False
    with pytest.raises(ConfigError, match='there kd_layers.inter.bn has one value'):
        check_training_data(model, loader())


@pytest.mark.parametrize(
    'options',
    [
        dict(drop_last=True),
        dict(sampler=InfiniteSampler),
        dict(batch_size=3),
        dict(dataset=Images(10)),
    ],
)
def test_no_batch_of_one_image(student: Any, options: dict) -> None:
    assert check_training_data(student(last_map=1), loader(**options)) == []


@pytest.mark.parametrize(
    ('options', 'refused'),
    [(dict(batch_size=10, drop_last=True), True), (dict(batch_size=10), False), (dict(), False)],
)
def test_a_loader_without_a_batch(options: dict, refused: bool) -> None:
    with (
        pytest.raises(ConfigError, match=r'val_dataloader gives no batch: of its 9 images')
        if (refused)
        else nullcontext()
    ):
        check_batches(loader(**options), 'val_dataloader')


def test_classes_of_the_head(student: Any) -> None:
    with pytest.raises(ConfigError, match='num_classes=3, but the training set has 4 classes'):
        check_training_data(student(), loader(Images(classes=4)))
    (warning,) = check_training_data(student(), loader(Images(classes=2)))
    assert 'num_classes=3' in warning and '2 classes: the other 1 are never right' in warning
    with pytest.raises(ConfigError, match=r'data_preprocessor.num_classes is 5.*num_classes=3'):
        check_training_data(student(num_classes=5, to_onehot=True), loader())


def test_labels_that_the_head_needs(student: Any) -> None:
    unlabelled = Images(labelled=False)
    with pytest.raises(DataError, match=r'\(LinearClsHead\).*neither gt_label nor gt_score'):
        check_training_data(student(), loader(unlabelled))
    model = student()
    model.head = OwnHead()
    assert check_training_data(model, loader(unlabelled)) == []
    data_free = SimpleNamespace(
        student=student(), generator=nn.Identity(), data_preprocessor=student().data_preprocessor
    )
    assert check_training_data(data_free, loader(unlabelled, 3)) == []


class OwnHead(nn.Module):
    """Has a loss that needs no labels."""

    def forward(self, feats: Any) -> Tensor:
        return feats[-1]
