"""What KD layers cost, by counting; timing leaves the student as it is."""

from __future__ import annotations

import torch
from mmpretrain.structures import DataSample

from mmkdlayer.deploy.flops import count_flops
from mmkdlayer.deploy.folded_kd_layer import fold_layer
from mmkdlayer.models import KDLayerClassifier
from mmkdlayer.report.costs import count_costs, time_parts
from mmkdlayer.report.networks import Networks


def batch(count: int = 4) -> dict:
    samples = [DataSample().set_gt_label(i % 3) for i in range(count)]
    return dict(inputs=torch.randn(count, 3, 16, 16), data_samples=samples)


def test_costs_are_those_of_the_shapes(classifier_config, kd_layer_configs) -> None:
    config = classifier_config()
    student = KDLayerClassifier(
        *(config[key] for key in ('backbone', 'neck', 'head')), kd_layers=kd_layer_configs()
    )
    networks = Networks(student, lambda data, training: data)
    costs = {cost.part: cost for cost in count_costs(networks, batch())}
    assert list(student.kd_layers) == ['inter', 'penult']
    for name, layer in student.kd_layers.items():
        weights = layer.templates.weight.numel() + layer.semantics.weight.numel()
        assert costs[f'layer {name}'].flops == (weights + 2 * layer.num_templates) * 4 * 4
        assert costs[f'layer {name}'].parameters == weights + 2 * layer.num_templates + 2
    alone, whole = costs['student without KD layers'], costs['student with KD layers']
    added = sum(costs[f'layer {name}'].flops for name in student.kd_layers)
    assert whole.flops == alone.flops + added
    assert whole.parameters == sum(p.numel() for p in student.parameters())
    # As studies and budgets count them.
    assert whole.flops == count_flops(student.eval(), (3, 16, 16))['']
    folded = costs['folded (export_student --fold)']
    kept = [fold_layer(layer) for layer in student.kd_layers.values()]
    assert folded.parameters - alone.parameters == sum(
        p.numel() for layer in kept for p in layer.parameters()
    )
    assert folded.flops - alone.flops == sum(
        2 * layer.num_templates * layer.in_channels * 4 * 4 for layer in kept
    )


def test_timing_leaves_the_student_as_it_is(make_distillation) -> None:
    algorithm = make_distillation()
    before = {name: value.clone() for name, value in algorithm.state_dict().items()}
    networks = Networks(algorithm.student, algorithm.data_preprocessor, algorithm)
    times = dict(time_parts(networks, batch(), repeats=1))
    assert set(times) == {
        *('student', 'teacher', 'KD layers', 'losses of the distillation', 'backward pass'),
    }
    assert all(seconds > 0 for seconds in times.values())
    after = algorithm.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert algorithm.training and not algorithm.teacher.training
    assert all(parameter.grad is None for parameter in algorithm.parameters())
