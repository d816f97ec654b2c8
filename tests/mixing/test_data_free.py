"""KD layers in mmrazor's data-free trainings: a generator makes the images."""

from __future__ import annotations

import mixing_cases as cases
import pytest
import torch
from mix_training import Launched
from mixing_networks import data_free
from mmengine.config import Config
from torch import nn

from mmkdlayer.errors import ConfigError

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')


@pytest.mark.parametrize('kind', ['DataFreeDistillation', 'DAFLDataFreeDistillation'])
@pytest.mark.parametrize('generator', ['DAFLGenerator', 'ZSKTGenerator'])
def test_data_free(
    classifier_config, kd_layer_configs, decision_file, kind: str, generator: str
) -> None:
    from mmengine.optim import OptimWrapper, OptimWrapperDict

    student = cases.with_kd_layers(classifier_config(), kd_layer_configs())
    decision = dict(type='mmkdlayer.CentroidDecision', num_centroids=5, file=decision_file(24))
    model = cases.build(data_free(kind, student, classifier_config(6), decision, generator))
    model.generator = Launched(model.generator)
    optimizers = OptimWrapperDict(
        **{
            name: OptimWrapper(torch.optim.SGD(getattr(model, name).parameters(), lr=0.01))
            for name in ('architecture', 'generator')
        }
    )
    before = model.student.kd_layers['penult'].templates.weight.detach().clone()
    samples = [dict(gt_label=0)] * 4
    data = dict(inputs=[torch.zeros(3, 16, 16)] * 4, data_samples=samples)
    model.data_preprocessor = nn.Module()
    model.data_preprocessor.forward = lambda data, training: dict(
        data, data_samples=labelled(len(data['inputs']))
    )
    log = model.train_step(data, optimizers)
    assert {f'generator.loss_{name}' for name in cases.OF_GENERATORS} <= set(log)
    assert {'distill.loss_penult', 'distill.loss_kl'} <= set(log)
    assert all(torch.isfinite(value).all() for value in log.values())
    assert not torch.equal(model.student.kd_layers['penult'].templates.weight, before)


def labelled(images: int) -> list:
    from mmpretrain.structures import DataSample

    return [DataSample().set_gt_label(index % cases.CLASSES) for index in range(images)]


@pytest.mark.parametrize(
    ('decision', 'words'),
    [
        (dict(type='mmkdlayer.CentroidDecision', num_centroids=5), 'data-free.*file=FILE'),
        (
            dict(type='mmkdlayer.SubclassDecision', num_classes=3, num_subclasses=2),
            'SubclassDecision needs the labels.*generated images',
        ),
    ],
)
def test_data_free_decisions_come_from_a_file_and_need_no_labels(
    classifier_config, kd_layer_configs, decision: dict, words: str
) -> None:
    from mmkdlayer.engine import prepare_decisions

    student = cases.with_kd_layers(classifier_config(), kd_layer_configs())
    model = data_free('DataFreeDistillation', student, classifier_config(6), decision)
    with pytest.raises(ConfigError, match=words):
        prepare_decisions(cases.build(model), Config(dict(model=model)), 'unused')
