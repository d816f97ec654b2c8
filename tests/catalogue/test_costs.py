"""Measured costs against formulas written out by hand, and against mmengine's own analysis."""

from __future__ import annotations

import pytest
import torch
from mmengine.analysis import get_model_complexity_info
from mmengine.registry import init_default_scope
from torch import nn

from mmkdlayer.catalogue.costs import measure, operations
from mmkdlayer.registry import MODELS


def kd_layer_by_hand(channels: int, templates: int, side: int) -> tuple[int, int]:
    """Parameters and FLOPs of one KD layer on a map (channels, side, side)."""
    positions = side * side
    parameters = channels * templates + 1  # templates and their scale
    parameters += 2 * templates  # batch norm
    parameters += templates * channels + 1  # semantics and their scale
    flops = positions * templates * channels  # cosine match with each template
    flops += positions * templates * 2  # batch norm
    flops += positions * channels * templates  # what the matches mean
    return parameters, flops


def test_network_by_hand(classifier_config, kd_layer_configs) -> None:
    """The tests' ResNet: 16x16 images; maps of 16, 8 and 4 pixels with 4, 8 and 16 channels."""
    model = classifier_config()
    model.update(type='mmkdlayer.KDLayerClassifier', kd_layers=kd_layer_configs())
    inter, penult = kd_layer_by_hand(16, 6, 4), kd_layer_by_hand(16, 5, 4)
    cost = measure(model, 16)
    assert cost.kd_parameters == inter[0] + penult[0]
    assert cost.kd_flops == inter[1] + penult[1]

    outputs = [4 * 256] * 5 + [8 * 64] * 5 + [16 * 16] * 5  # of the convolutions, in order
    inputs = [3, 4, 4, 4, 4] + [4, 8, 8, 8] + [4] + [8, 16, 16, 16] + [8]
    kernels = [9] * 5 + [9] * 4 + [1] + [9] * 4 + [1]  # the last of a stage is its shortcut
    flops = sum(o * i * k for o, i, k in zip(outputs, inputs, kernels))
    flops += 2 * sum(outputs)  # batch norms
    flops += 16 * 16  # pooling
    flops += 16 * 3  # classifier
    assert cost.flops == flops


@pytest.mark.parametrize(
    ('backbone', 'channels', 'side', 'places'),
    [
        (dict(type='mmpretrain.ResNet', depth=18), 512, 64, ('layer4.0', 'layer4')),
        (dict(type='mmkdlayer.CifarShuffleNetV1'), 960, 32, ('layers.2.0', 'layers.2')),
        (dict(type='mmkdlayer.CifarWideResNet', depth=16), 64, 32, ('layer3.0', 'layer3')),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else '',
)
def test_the_same_as_mmengine(backbone: dict, channels: int, side: int, places: tuple) -> None:
    init_default_scope('mmpretrain')
    model = dict(
        type='mmkdlayer.KDLayerClassifier',
        backbone=backbone,
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=channels),
        kd_layers={
            name: dict(module=f'backbone.{place}', in_channels=channels, num_templates=templates)
            for name, place, templates in zip(('inter', 'penult'), places, (80, 33))
        },
    )
    cost = measure(model, side)
    for kd_layers, parameters, flops in (
        (model['kd_layers'], cost.kd_parameters, cost.kd_flops),
        ({}, 0, 0),
    ):
        network = MODELS.build(dict(model, kd_layers=kd_layers)).eval()
        host = get_model_complexity_info(
            network, input_shape=(3, side, side), show_table=False, show_arch=False
        )
        assert cost.parameters + parameters == host['params']
        assert cost.flops + flops == host['flops']


def test_operations_of_a_convolution_with_groups() -> None:
    module = nn.Conv2d(8, 12, 3, groups=4)
    image = torch.zeros(1, 8, 7, 7)
    assert operations(module, (image,), module(image)) == 12 * 25 * (8 // 4) * 9
    assert operations(nn.ReLU(), (image,), image) == 0
