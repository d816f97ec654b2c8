"""KD layers with every distiller and algorithm of mmrazor: the student brings them along."""

from __future__ import annotations

import inspect
from pathlib import Path

import mixing_cases as cases
import pytest
import torch
from mmengine.config import Config

from mmkdlayer.deploy import export_student, load_student
from mmkdlayer.errors import ConfigError
from mmkdlayer.models import CentroidDecision

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')


def registered(package: str) -> set[str]:
    import mmrazor.models  # noqa: F401
    from mmrazor.registry import MODELS as MMRAZOR_MODELS

    return {
        name
        for name, entry in MMRAZOR_MODELS.module_dict.items()
        if inspect.isclass(entry) and entry.__module__.startswith(package)
    }


def test_every_distiller_and_algorithm_is_mixed_here() -> None:
    assert registered('mmrazor.models.distillers') == {
        'ConfigurableDistiller',
        'BYOTDistiller',
        'OFDDistiller',
    }
    assert registered('mmrazor.models.algorithms.distill') == {
        'SingleTeacherDistill',
        'FpnTeacherDistill',
        'OverhaulFeatureDistillation',
        'SelfDistill',
        'DataFreeDistillation',
        'DAFLDataFreeDistillation',
    }


@pytest.mark.parametrize(
    ('kind', 'algorithm'),
    [
        ('ConfigurableDistiller', 'SingleTeacherDistill'),
        ('ConfigurableDistiller', 'FpnTeacherDistill'),
        ('BYOTDistiller', 'SingleTeacherDistill'),
        ('OFDDistiller', 'OverhaulFeatureDistillation'),
    ],
)
def test_same_losses_as_with_our_distiller(
    make_distillation, stock_config, make_batch, backward, kind: str, algorithm: str
) -> None:
    ours = make_distillation()
    theirs = make_distillation(stock_config(kind, type=f'mmrazor.{algorithm}'))
    theirs.load_state_dict(ours.state_dict(), strict=False)
    theirs.teacher.load_state_dict(ours.teacher.state_dict())
    batch = make_batch(5)
    expected, expected_gradients = backward(ours, batch)
    found, gradients = backward(theirs, batch)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)
    assert gradients.keys() == expected_gradients.keys()
    for name, value in expected_gradients.items():
        torch.testing.assert_close(gradients[name], value, msg=name)


def test_stock_distiller_is_fitted_trained_resumed_and_exported(
    stock_config, run, tmp_path: Path
) -> None:
    runner = run(stock_config())
    for name in ('inter', 'penult'):
        assert (tmp_path / 'work' / 'decisions' / f'{name}.safetensors').exists()
        assert runner.model.distiller.distill_losses[f'loss_{name}'].decision.is_fitted
    again = run(stock_config(), resume=True, train_cfg=dict(by_epoch=True, max_epochs=2))
    assert again.epoch == 2
    cfg = Config(dict(again.cfg._cfg_dict))
    export_student(cfg, tmp_path / 'work' / 'epoch_2.pth', tmp_path / 'out')
    student = load_student(tmp_path / 'out')
    assert set(student.kd_layers) == {'inter', 'penult'}
    images = torch.randn(2, 3, 16, 16)
    again.model.eval()
    with torch.no_grad():
        torch.testing.assert_close(
            student(images, mode='tensor'), again.model.student(images, mode='tensor')
        )


def test_stock_and_our_distiller_fit_the_same_decisions(
    stock_config, distillation_config, run
) -> None:
    theirs = run(stock_config(), 'theirs').model.distiller.distill_losses
    ours = run(distillation_config(), 'ours').model.distiller.distill_losses
    for name, tables in (('loss_penult', ('centroids',)), ('loss_inter', ('centers', 'decisions'))):
        for table in tables:
            values = [getattr(x[name].decision, table) for x in (ours, theirs)]
            values = [value.to_dense() if value.is_sparse else value for value in values]
            torch.testing.assert_close(*values)


def add_ofd(distiller: dict) -> None:
    for side in ('student', 'teacher'):
        distiller.setdefault(f'{side}_recorders', {})['bn'] = dict(
            type='ModuleOutputs', source='backbone.layer3.0.bn1'
        )
    distiller.setdefault('connectors', {}).update(
        ofd_student=cases.CONV, ofd_teacher=dict(type='mmrazor.OFDTeacherConnector')
    )
    distiller.setdefault('distill_losses', {})['loss_ofd'] = dict(type='mmrazor.OFDLoss')
    distiller.setdefault('loss_forward_mappings', {})['loss_ofd'] = dict(
        s_feature=dict(recorder='bn', from_student=True, connector='ofd_student'),
        t_feature=dict(recorder='bn', from_student=False, connector='ofd_teacher'),
    )


def test_overhaul_of_features(stock_config, make_distillation, make_batch, backward) -> None:
    config = stock_config('OFDDistiller', type='mmrazor.OverhaulFeatureDistillation')
    add_ofd(config['distiller'])
    log, gradients = backward(make_distillation(config), make_batch())
    assert log['distill.loss_ofd'] > 0
    assert gradients['architecture.kd_layers.penult.templates.weight'].abs().sum() > 0


def byot(classifier: dict) -> dict:
    """BYOT's three kinds of losses from the first stage, as in mmrazor's recipe."""
    shallow = dict(recorder='shallow', from_student=True, connector='shallow')
    return dict(
        type='mmrazor.SelfDistill',
        _scope_='mmrazor',
        architecture=classifier,
        distiller=dict(
            type='BYOTDistiller',
            student_recorders=dict(shallow=dict(type='ModuleOutputs', source='backbone.layer1')),
            teacher_recorders=dict(
                gap=dict(type='ModuleOutputs', source='neck.gap'),
                logits=dict(type='ModuleOutputs', source='head.fc'),
                label=dict(type='ModuleInputs', source='head.loss_module'),
            ),
            connectors=dict(
                shallow=dict(
                    type='BYOTConnector',
                    in_channel=4,
                    out_channel=16,
                    expansion=1,
                    stride=2,
                    num_classes=cases.CLASSES,
                )
            ),
            distill_losses=dict(
                loss_feature=dict(type='L2Loss', normalize=False, loss_weight=0.03, dist=True),
                loss_label=dict(type='mmcls.CrossEntropyLoss', loss_weight=0.7),
                loss_soft=dict(type='KLDivergence', tau=3, loss_weight=0.3),
            ),
            loss_forward_mappings=dict(
                loss_feature=dict(
                    s_feature=dict(shallow, connector_idx=0),
                    t_feature=dict(recorder='gap', from_student=False),
                ),
                loss_label=dict(
                    cls_score=dict(shallow, connector_idx=1),
                    label=dict(recorder='label', from_student=False, data_idx=1),
                ),
                loss_soft=dict(
                    preds_S=dict(shallow, connector_idx=1),
                    preds_T=dict(recorder='logits', from_student=False),
                ),
            ),
        ),
    )


def test_self_distillation_trains_kd_layers_by_its_own_losses(
    classifier_config, kd_layer_configs, make_batch, backward, run
) -> None:
    config = byot(cases.with_kd_layers(classifier_config(), kd_layer_configs()))
    log, gradients = backward(cases.build(config), make_batch())
    assert {'distill.loss_feature', 'distill.loss_label', 'distill.loss_soft'} <= set(log)
    for name in ('inter', 'penult'):
        assert gradients[f'architecture.kd_layers.{name}.templates.weight'].abs().sum() > 0
    assert run(config).epoch == 1  # the hooks find nothing to fit and no teacher to check


def test_self_distillation_has_no_teacher_that_could_decide(
    classifier_config, kd_layer_configs, run
) -> None:
    config = byot(cases.with_kd_layers(classifier_config(), kd_layer_configs()))
    distiller = config['distiller']
    distiller.setdefault('student_recorders', {})['scores'] = dict(
        type='ModuleOutputs', source='kd_layers.penult.templates'
    )
    distiller.setdefault('teacher_recorders', {})['map'] = dict(
        type='ModuleOutputs', source='backbone.layer3'
    )
    distiller.setdefault('distill_losses', {})['loss_penult'] = dict(
        type='mmkdlayer.TeacherDecisionLoss',
        decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=5),
    )
    distiller.setdefault('loss_forward_mappings', {})['loss_penult'] = dict(
        scores=dict(recorder='scores', from_student=True),
        teacher_feature=dict(recorder='map', from_student=False),
    )
    with pytest.raises(ConfigError, match=r"SelfDistill has no teacher.*\['penult'\]"):
        run(config)


def factor_transfer(config: dict) -> dict:
    distiller = config['distiller']
    for side in ('student', 'teacher'):
        distiller.setdefault(f'{side}_recorders', {})['conv'] = dict(
            type='ModuleOutputs', source='backbone.layer3.1.conv2'
        )
    distiller.setdefault('connectors', {}).update(
        factor_student=dict(type='mmrazor.Translator', in_channel=16, out_channel=12),
        factor_teacher=dict(
            type='mmrazor.Paraphraser', in_channel=24, out_channel=12, phase='train'
        ),
    )
    distiller.setdefault('distill_losses', {})['loss_factor'] = dict(type='mmrazor.FTLoss')
    distiller.setdefault('loss_forward_mappings', {})['loss_factor'] = dict(
        s_feature=dict(recorder='conv', from_student=True, connector='factor_student'),
        t_feature=dict(recorder='conv', from_student=False, connector='factor_teacher'),
    )
    return config


@pytest.mark.parametrize('ours', [True, False])
def test_factor_transfer(
    distillation_config, stock_config, make_distillation, make_batch, backward, ours: bool
) -> None:
    config = factor_transfer(distillation_config() if ours else stock_config())
    log, gradients = backward(make_distillation(config), make_batch())
    assert log['distill.loss_factor'] > 0
    assert gradients['distiller.connectors.factor_student.encoder.0.weight'].abs().sum() > 0
    assert not any('factor_teacher' in name for name in gradients)


def test_released_records_of_a_stock_distiller(stock_config, run) -> None:
    hooks = [
        dict(type='mmkdlayer.FitDecisionsHook'),
        dict(type='mmkdlayer.ReleaseRecordsHook'),
    ]
    distiller = run(stock_config(), custom_hooks=hooks).model.distiller
    for manager in (distiller.student_recorders, distiller.teacher_recorders):
        assert all(not recorder.data_buffer for recorder in manager.recorders.values())


def test_a_decision_that_is_not_of_this_teacher_is_refused(
    stock_config, run, decision_file
) -> None:
    config = stock_config()
    config['distiller']['distill_losses']['loss_penult']['decision']['file'] = decision_file(7)
    with pytest.raises(Exception, match='7 channels.*have 24'):
        run(config)
    assert CentroidDecision(5, file=decision_file(7)).feature_channels == 7
