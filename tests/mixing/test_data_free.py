"""KD layers in mmrazor's data-free trainings: a generator makes the images."""

from __future__ import annotations

import mixing_cases as cases
import pytest
import torch
from mix_training import Launched
from mmengine.config import Config
from torch import nn

from mmkdlayer.errors import ConfigError

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')


def data_free(
    kind: str, classifier: dict, teacher: dict, decision: dict, generator: str = 'DAFLGenerator'
) -> dict:
    return dict(
        type=f'mmrazor.{kind}',
        _scope_='mmrazor',
        architecture=classifier,
        teachers=dict(big=dict(build_cfg=dict(teacher, _scope_='mmpretrain'))),
        generator=dict(type=generator, img_size=16, latent_dim=6, hidden_channels=8),
        distiller=dict(
            type='ConfigurableDistiller',
            student_recorders=dict(
                scores=dict(type='ModuleOutputs', source='kd_layers.penult.templates'),
                logits=dict(type='ModuleOutputs', source='head.fc'),
            ),
            teacher_recorders=dict(
                map=dict(type='ModuleOutputs', source='big.backbone.layer3'),
                logits=dict(type='ModuleOutputs', source='big.head.fc'),
            ),
            distill_losses=dict(
                loss_penult=dict(type='mmkdlayer.TeacherDecisionLoss', decision=decision),
                loss_kl=dict(type='KLDivergence', tau=6),
            ),
            loss_forward_mappings=dict(
                loss_penult=dict(
                    scores=dict(recorder='scores', from_student=True),
                    teacher_feature=dict(recorder='map', from_student=False),
                ),
                loss_kl=dict(
                    preds_S=dict(recorder='logits', from_student=True),
                    preds_T=dict(recorder='logits', from_student=False),
                ),
            ),
        ),
        generator_distiller=dict(
            type='ConfigurableDistiller',
            teacher_recorders={
                name: dict(type='ModuleOutputs', source=f'big.{entry["source"]}')
                for name, entry in cases.OF_GENERATORS.items()
            },
            distill_losses={f'loss_{name}': dict(type=name) for name in cases.OF_GENERATORS},
            loss_forward_mappings={
                f'loss_{name}': {entry['key']: dict(recorder=name, from_student=False)}
                for name, entry in cases.OF_GENERATORS.items()
            },
        ),
    )


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
