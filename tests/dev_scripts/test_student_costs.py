"""What students cost: counted by hand, folded, and within a budget."""

from __future__ import annotations

import copy

import pytest
import student_costs
from command_line import ROOT
from mmengine.config import Config
from student_costs import Cost, measure, measure_once, within_budget

from mmkdlayer.deploy import student_model_config

FOLDER = ROOT / 'configs' / 'kdlayer'


def read_student(name: str) -> dict:
    return student_model_config(Config.fromfile(FOLDER / f'{name}.py'))


@pytest.fixture(scope='module')
def resnet20() -> Cost:
    return measure(read_student('resnet56_resnet20_cifar100'), 32)


def layer_by_hand(channels: int, templates: int, side: int) -> tuple[int, int, int, int, int]:
    """Templates, parameters and FLOPs of one KD layer on a map (channels, side, side), then folded."""
    positions = side * side
    parameters = channels * templates + 1  # templates and their scale
    parameters += 2 * templates  # batch norm
    parameters += templates * channels + 1  # semantics and their scale
    flops = positions * templates * channels  # cosine match with each template
    flops += positions * templates * 2  # batch norm
    flops += positions * channels * templates  # what the matches mean
    folded = channels * templates + templates  # a convolution with bias
    folded += templates * channels  # and one without
    folded_flops = 2 * positions * templates * channels
    return templates, parameters, flops, folded, folded_flops


def test_costs_of_a_pair_by_hand(resnet20: Cost) -> None:
    # 64 channels on maps of 8x8; 4096 centroids, 100 x 8 sub-classes.
    assert resnet20.layers == dict(
        inter=layer_by_hand(64, 800, 8), penult=layer_by_hand(64, 4096, 8)
    )
    # As the literature has them: 0.28 M, 41 M multiply-adds.
    assert (round(resnet20.parameters, -4), round(resnet20.flops, -6)) == (280_000, 41_000_000)


def test_costs_of_a_network_by_hand(classifier_config, kd_layer_configs) -> None:
    """The tests' ResNet: 16x16 images; maps of 16, 8 and 4 pixels with 4, 8 and 16 channels."""
    model = classifier_config()
    model.update(type='mmkdlayer.KDLayerClassifier', kd_layers=kd_layer_configs())
    cost = measure(model, 16)
    assert cost.layers == dict(inter=layer_by_hand(16, 6, 4), penult=layer_by_hand(16, 5, 4))
    assert cost.added('folded_flops') == 2 * 16 * 16 * (6 + 5)

    outputs = [4 * 256] * 5 + [8 * 64] * 5 + [16 * 16] * 5  # of the convolutions, in order
    inputs = [3, 4, 4, 4, 4] + [4, 8, 8, 8] + [4] + [8, 16, 16, 16] + [8]
    kernels = [9] * 5 + [9] * 4 + [1] + [9] * 4 + [1]  # the last of a stage is its shortcut
    flops = sum(o * i * k for o, i, k in zip(outputs, inputs, kernels))
    flops += 2 * sum(outputs)  # batch norms
    flops += 16 * 16  # pooling
    flops += 16 * 3  # classifier
    assert cost.flops == flops


def test_a_layer_that_is_not_fed_forward_costs_nothing_once_folded(
    classifier_config, kd_layer_configs
) -> None:
    model = classifier_config()
    layers = kd_layer_configs()
    layers['inter']['alpha'] = 0.0
    model.update(type='mmkdlayer.KDLayerClassifier', kd_layers=layers)
    cost = measure(model, 16)
    assert cost.layers['inter'] == (*layer_by_hand(16, 6, 4)[:3], 0, 0)
    assert cost.layers['penult'] == layer_by_hand(16, 5, 4)


def test_a_known_student_is_not_measured_again(
    classifier_config, kd_layer_configs, monkeypatch
) -> None:
    model = classifier_config()
    model.update(type='mmkdlayer.KDLayerClassifier', kd_layers=kd_layer_configs())
    known: dict = {}
    cost = measure_once(model, 16, known)
    measured = []
    monkeypatch.setattr(student_costs, 'measure', lambda *args: measured.append(args) or cost)
    fewer = copy.deepcopy(model)
    del fewer['kd_layers']['inter']
    assert measure_once(fewer, 16, known) == Cost(
        cost.parameters, cost.flops, dict(penult=cost.layers['penult'])
    )
    assert not measured
    # Another layer, another size or another network is.
    larger = copy.deepcopy(fewer)
    larger['kd_layers']['penult']['num_templates'] = 7
    measure_once(larger, 16, {**known})
    measure_once(model, 32, known)
    measure_once(dict(model, head=dict(model['head'], num_classes=9)), 16, known)
    assert len(measured) == 3


def test_a_student_within_the_budget(resnet20: Cost) -> None:
    """What the table says of it is what a student with these layers costs, folded."""
    sizes, parameters = within_budget(resnet20, 100)
    assert sizes == (2, 4096, ('inter',), 200 * 2 * 64 * 64)
    model = read_student('resnet56_resnet20_cifar100')
    model['kd_layers']['inter']['num_templates'] = 100 * sizes.num_subclasses
    model['kd_layers']['penult']['alpha'] = 0.0
    cost = measure(model, 32)
    assert (cost.added('folded_flops'), cost.added('folded_parameters')) == (sizes.cost, parameters)
    assert cost.added('folded_flops') <= 0.05 * cost.flops
