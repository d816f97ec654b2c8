"""The distiller: where KD layers live, what is recorded, what a checkpoint holds, wrong configs."""

from __future__ import annotations

import copy
import pickle
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import nn

from mmkdlayer.errors import ConfigError, UnfittedDecisionError
from mmkdlayer.models import KDLayerConnector
from mmkdlayer.models.connectors import kd_layer_connector

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')

PARTS = [
    'templates.weight',
    'templates.scale',
    'bn.weight',
    'bn.bias',
    'bn.running_mean',
    'bn.running_var',
    'bn.num_batches_tracked',
    'semantics.weight',
    'semantics.scale',
]


def record(model: nn.Module, recorder: str, student: bool = True, **more: Any) -> Any:
    return model.distiller.get_record(recorder, from_student=student, **more)


def recorders_of(model: nn.Module) -> list:
    managers = (model.distiller.student_recorders, model.distiller.teacher_recorders)
    return [recorder for manager in managers for recorder in manager.recorders.values()]


def keep_records(model: nn.Module) -> None:
    """Let records outlive the loss, so that a test can look at them."""
    model.distiller.release_records = lambda: None


def test_keys_of_a_checkpoint(make_distillation, classifier_config):
    from mmengine.registry import MODELS

    keys = list(make_distillation().state_dict())
    ours = [key for key in keys if 'kd_layers' in key]
    assert sorted(ours) == sorted(
        f'architecture.kd_layers.{name}.{part}' for name in ('inter', 'penult') for part in PARTS
    )
    plain = MODELS.build(classifier_config()).state_dict()
    assert sorted(set(keys) - set(ours)) == sorted(f'architecture.{key}' for key in plain)


def test_names_of_the_parameters_that_are_trained(make_distillation):
    model = make_distillation()
    names = [n for n, p in model.named_parameters(remove_duplicate=False) if 'templates' in n]
    assert names == [
        f'architecture.kd_layers.{name}.templates.{part}'
        for name in ('inter', 'penult')
        for part in ('weight', 'scale')
    ]
    assert all(
        name.startswith('architecture.') for name, p in model.named_parameters() if p.requires_grad
    )
    assert 'inter' not in model.distiller.connectors
    assert type(model.student.kd_layers['inter']) is KDLayerConnector


def test_one_setting_for_the_precision_of_all_products(make_distillation, distillation_config):
    config = distillation_config()
    config['distiller']['precision'] = 'tf32'
    model = make_distillation(config)
    found = [
        m.precision for m in model.modules() if hasattr(m, 'precision') and m != model.distiller
    ]
    assert len(found) == 6 and set(found) == {'tf32'}  # two layers of two, two decisions
    config['distiller']['precision'] = 'half'
    with pytest.raises(
        ConfigError, match="KDLayerDistiller: precision must be 'float32' or 'tf32'"
    ):
        make_distillation(config)


def test_save_teacher_puts_the_teacher_into_checkpoints(make_distillation, distillation_config):
    config = distillation_config()
    config['distiller']['save_teacher'] = True
    model = make_distillation(config)
    keys = set(model.state_dict())
    assert {f'teacher.{key}' for key in model.teacher.state_dict()} <= keys
    assert keys - set(make_distillation().state_dict()) == {
        k for k in keys if k.startswith('teacher')
    }


@pytest.mark.parametrize('save_teacher', [False, True])
def test_state_dicts_load_strictly_with_or_without_teacher(
    save_teacher, make_distillation, distillation_config, make_batch
):
    config = distillation_config()
    config['distiller']['save_teacher'] = save_teacher
    source, target = make_distillation(config, seed=1), make_distillation(seed=2)
    teacher = copy.deepcopy(target.teacher.state_dict())
    target.load_state_dict(source.state_dict(), strict=True)
    inputs, _ = make_batch()
    assert torch.equal(target.student.eval()(inputs), source.student.eval()(inputs))
    expected = source.teacher.state_dict() if save_teacher else teacher
    for name, value in target.teacher.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_a_teacher_that_is_trained_is_in_checkpoints_and_in_training_mode(
    make_distillation, distillation_config, make_batch
):
    config = distillation_config(teacher_trainable=True, teacher_norm_eval=False)
    model = make_distillation(config)
    assert any(key.startswith('teacher.') for key in model.state_dict())
    assert model.teacher.backbone.layer3.training
    losses = model(*make_batch(), mode='loss')
    losses['teacher.loss'].backward(retain_graph=True)
    before = model.teacher.head.fc.weight.grad.clone()
    (losses['distill.loss_inter'] + losses['distill.loss_penult']).backward()
    assert before.abs().sum() > 0
    assert torch.equal(model.teacher.head.fc.weight.grad, before)


@pytest.mark.parametrize(
    'twin_of', [lambda model: model, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_the_whole_teacher_stays_in_eval_mode(
    twin_of, make_distillation, distillation_config, classifier_config, make_batch
):
    config = distillation_config()
    config['teacher'] = classifier_config(6)
    config['teacher']['head'].update(
        type='mmpretrain.StackedLinearClsHead', mid_channels=[8], dropout_rate=0.5
    )
    config['distiller']['teacher_recorders'] = dict(
        logits=dict(type='ModuleOutputs', source='head')
    )
    model = make_distillation_with_stacked_head(make_distillation, config)
    dropout = [module for module in model.teacher.modules() if isinstance(module, nn.Dropout)]
    assert dropout
    statistics = copy.deepcopy(model.teacher.state_dict())
    model = twin_of(model)
    model.train()
    assert not any(module.training for module in model.teacher.modules())
    assert all(module.training for module in model.student.modules())
    inputs, samples = make_batch()
    first = model.teacher(inputs)
    model(inputs, samples, mode='loss')
    model.train()
    assert torch.equal(model.teacher(inputs), first)
    for name, value in model.teacher.state_dict().items():
        assert torch.equal(value, statistics[name]), name


def make_distillation_with_stacked_head(make_distillation, config: dict) -> nn.Module:
    """The fixture fits decisions to ``head.fc.in_features``, which this head has not."""
    from mmengine.registry import MODELS

    donor = make_distillation()
    model = MODELS.build(config)
    model.init_weights()
    for name, loss in model.distiller.distill_losses.items():
        loss.decision.copy_from(donor.distiller.distill_losses[name].decision)
    return model


def test_what_recorders_see(make_distillation, distillation_config, make_batch):
    config = distillation_config()
    config['distiller']['student_recorders'] = dict(
        module=dict(type='ModuleOutputs', source='backbone.layer3'),
        before=dict(type='ModuleInputs', source='kd_layers.penult'),
        after=dict(type='ModuleOutputs', source='kd_layers.penult'),
        next=dict(type='ModuleInputs', source='neck'),
        block=dict(type='ModuleOutputs', source='backbone.layer3.0'),
        next_block=dict(type='ModuleInputs', source='backbone.layer3.1'),
    )
    model = make_distillation(config)
    model.eval()
    keep_records(model)
    inputs, samples = make_batch()
    model(inputs, samples, mode='loss')
    layer = model.student.kd_layers['penult']
    before = record(model, 'before', data_idx=0)
    after = record(model, 'after')
    assert torch.equal(layer(before), after)
    assert record(model, 'module') is after
    assert torch.equal(record(model, 'next', data_idx=0)[0], after)
    assert torch.equal(record(model, 'kd_layers.penult.templates'), layer.templates(before))
    assert record(model, 'block') is record(model, 'next_block', data_idx=0)


def test_records_are_released_with_the_losses(make_distillation, make_batch):
    model = make_distillation()
    losses = model(*make_batch(), mode='loss')
    recorders = recorders_of(model)
    assert len(recorders) == 4 and not any(recorder.data_buffer for recorder in recorders)
    copy.deepcopy(model)
    losses['distill.loss_inter'].backward()
    copy.deepcopy(model)
    pickle.dumps(model)


def test_records_are_released_when_a_loss_fails(make_distillation, make_batch):
    model = make_distillation()
    inputs, samples = make_batch()
    samples[0].set_gt_label(99)
    for classifier in (model.student, model.teacher):  # a task loss that takes any label
        classifier.head.loss_module.forward = lambda score, target, **kwargs: score.sum()
    with pytest.raises(ValueError, match=r'labels must be 0 to 2 .* but got \[99\]'):
        model(inputs, samples, mode='loss')
    assert not any(recorder.data_buffer for recorder in recorders_of(model))


def test_an_unfitted_decision_is_an_error_that_names_the_command(distillation_config, make_batch):
    from mmengine.registry import MODELS

    model = MODELS.build(distillation_config())
    assert model(make_batch()[0]).shape == (4, 3)
    with pytest.raises(UnfittedDecisionError, match='mmkdlayer fit_decisions CONFIG'):
        model(*make_batch(), mode='loss')


@pytest.mark.parametrize(
    ('path', 'value', 'message'),
    [
        ('inter.module', 'backbone.layer9.0', r'student .* "backbone\.layer9\.0".*layer3\.0'),
        ('inter.module', 3, r'kd_layers\.inter\.module must be the name of a student module'),
        ('inter.module', None, r'kd_layers\.inter lacks "module"'),
        ('inter.teacher', 'backbone.layer4', r'teacher .* "backbone\.layer4"'),
        ('inter.teacher', None, 'has "decision" but no "teacher"'),
        ('inter.decision', None, 'has "teacher" but no "decision"'),
        (
            'inter.num_templates',
            6,
            'num_templates follows from the decision. Take num_templates out',
        ),
        ('inter.decision', dict(type='mmengine.BaseDataPreprocessor'), 'must be a TeacherDecision'),
        ('inter.alhpa', 0.5, 'unknown key "alhpa". Did you mean "alpha"'),
        (
            'inter.template_scale',
            2.0,
            r'argument of the layer: write layer=dict\(template_scale=2\.0\)',
        ),
        ('inter.output_index', 1.5, 'output_index must be an integer, or'),
        ('inter', ['backbone.layer3'], r'kd_layers\.inter must be a dict such as'),
    ],
)
def test_a_config_that_does_not_fit_fails_at_build(path, value, message, distillation_config):
    from mmengine.registry import MODELS

    config = distillation_config()
    *parents, last = path.split('.')
    part = config['distiller']['kd_layers']
    for key in parents:
        part = part[key]
    part[last] = value
    with pytest.raises(ConfigError, match=message):
        MODELS.build(config)


def test_a_recorder_of_a_module_that_is_not_there_lists_near_ones(distillation_config):
    from mmengine.registry import MODELS

    config = distillation_config()
    for source, message in (
        ('head.loss', r'student .*head\.loss_module'),
        ('kd_layers.intre.templates', 'kd_layers.inter'),
    ):
        config['distiller']['student_recorders'] = dict(
            one=dict(type='ModuleOutputs', source=source)
        )
        with pytest.raises(ConfigError, match=message):
            MODELS.build(config)


@pytest.mark.parametrize(
    ('key', 'name', 'value'),
    [
        ('distill_losses', 'loss_inter', dict(type='mmrazor.L2Loss')),
        ('loss_forward_mappings', 'loss_inter', dict(gt_label=dict(recorder='mine'))),
        (
            'student_recorders',
            'kd_layers.inter.templates',
            dict(type='ModuleInputs', source='head'),
        ),
        ('teacher_recorders', 'kd_layers.inter.teacher', dict(type='ModuleInputs', source='head')),
    ],
)
def test_something_of_the_name_that_a_layer_needs(key, name, value, distillation_config):
    from mmengine.registry import MODELS

    config = distillation_config()
    config['distiller'][key] = {name: value}
    with pytest.raises(ConfigError, match=f'{key} has "{name}", which kd_layers.inter makes by'):
        MODELS.build(config)


def test_wrong_channels_are_an_error_that_names_both(
    make_distillation, distillation_config, make_batch
):
    config = distillation_config()
    config['distiller']['kd_layers']['inter']['in_channels'] = 12
    message = r'C=12, H, W\).* from module "backbone.layer3.0", but it returns \(4, 16, 4, 4\)'
    with pytest.raises(ConfigError, match=message):
        make_distillation(config)(*make_batch(), mode='loss')


def test_a_layer_without_supervision_is_a_capacity_control(
    make_distillation, distillation_config, make_batch
):
    from mmengine.registry import MODELS

    config = distillation_config()
    for layer, templates in zip(config['distiller']['kd_layers'].values(), (6, 5)):
        del layer['teacher'], layer['decision']
        layer['num_templates'] = templates
    model = MODELS.build(config)
    losses = model(*make_batch(), mode='loss')
    assert set(losses) == {'student.loss'}
    losses['student.loss'].backward()
    assert model.student.kd_layers['inter'].templates.weight.grad.abs().sum() > 0


def test_another_connector_stays_with_the_distiller(
    make_distillation, distillation_config, make_batch
):
    config = distillation_config()
    recorders = dict(penult=dict(type='ModuleOutputs', source='backbone.layer3'))
    config['distiller'].update(
        connectors=dict(
            fit=dict(type='mmrazor.ConvModuleConnector', in_channel=16, out_channel=24)
        ),
        student_recorders=recorders,
        teacher_recorders=recorders,
        distill_losses=dict(loss_fit=dict(type='mmrazor.L2Loss')),
        loss_forward_mappings=dict(
            loss_fit=dict(
                s_feature=dict(recorder='penult', from_student=True, connector='fit'),
                t_feature=dict(recorder='penult', from_student=False),
            )
        ),
    )
    model = make_distillation(config)
    fitted = [key for key in model.state_dict() if not key.startswith('architecture.')]
    assert fitted and all(key.startswith('distiller.connectors.fit.') for key in fitted)
    losses = model(*make_batch(), mode='loss')
    losses['distill.loss_fit'].backward()
    assert next(model.distiller.connectors['fit'].parameters()).grad.abs().sum() > 0


def test_without_kd_layers_it_is_mmrazor_s_distiller(distillation_config, make_batch):
    from mmengine.registry import MODELS

    config = distillation_config()
    recorders = dict(fc=dict(type='ModuleOutputs', source='head.fc'))
    config['distiller'] = dict(
        type='mmkdlayer.KDLayerDistiller',
        student_recorders=recorders,
        teacher_recorders=recorders,
        distill_losses=dict(loss_kl=dict(type='mmrazor.KLDivergence')),
        loss_forward_mappings=dict(
            loss_kl=dict(
                preds_S=dict(recorder='fc', from_student=True),
                preds_T=dict(recorder='fc', from_student=False),
            )
        ),
    )
    model = MODELS.build(config)
    assert not hasattr(model.student, 'kd_layers')
    assert set(model(*make_batch(), mode='loss')) == {'student.loss', 'distill.loss_kl'}


def test_the_weight_of_a_layer_s_loss(make_distillation, distillation_config, make_batch):
    config = distillation_config()
    expected = make_distillation(config)(*make_batch(), mode='loss')
    config['distiller']['kd_layers']['inter']['loss_weight'] = 0.25
    found = make_distillation(config)(*make_batch(), mode='loss')
    torch.testing.assert_close(found['distill.loss_inter'], 0.25 * expected['distill.loss_inter'])
    torch.testing.assert_close(found['distill.loss_penult'], expected['distill.loss_penult'])


@pytest.mark.skipif(not find_spec('triton'), reason='needs triton')
def test_a_layer_s_triton_kernels_are_for_its_loss_too(
    make_distillation, distillation_config, monkeypatch
):
    # As if there were a GPU.
    monkeypatch.setattr(kd_layer_connector, 'require_triton', lambda *arguments: None)
    config = distillation_config()
    config['distiller']['kd_layers']['inter']['layer'] = dict(implementation='triton')
    losses = make_distillation(config).distiller.distill_losses
    assert losses['loss_inter'].implementation == 'triton'
    assert losses['loss_penult'].implementation == 'memory_efficient'


def test_one_output_of_a_teacher_module_that_returns_several(
    make_distillation, distillation_config, make_batch
):
    config = distillation_config()
    expected = make_distillation(config)(*make_batch(), mode='loss')
    config['distiller']['kd_layers']['penult'].update(teacher='backbone', teacher_index=0)
    found = make_distillation(config)(*make_batch(), mode='loss')
    torch.testing.assert_close(found['distill.loss_penult'], expected['distill.loss_penult'])


def test_data_samples_are_kept_for_decisions_that_need_labels_alone(
    make_distillation, distillation_config, make_batch
):
    from mmengine.registry import MODELS

    model = make_distillation()
    keep_records(model)
    model(*make_batch(), mode='loss')
    assert len(model.distiller.data_samples.data_samples) == 4
    model = make_distillation()
    model(*make_batch(), mode='loss')
    assert model.distiller.data_samples.data_samples is None
    config = distillation_config()
    del config['distiller']['kd_layers']['inter']
    model = MODELS.build(config)
    model.student(*make_batch(), mode='loss')
    assert model.distiller.data_samples.data_samples is None


def test_a_label_that_the_config_records_itself_comes_first(
    make_distillation, distillation_config, make_batch
):
    """A loss that is written out in mmrazor's form may have labels of its own."""
    config = distillation_config()
    decision = config['distiller']['kd_layers']['inter']['decision']
    config['distiller'].update(
        student_recorders=dict(
            scores=dict(type='ModuleOutputs', source='kd_layers.inter.templates'),
            label=dict(type='ModuleInputs', source='head.loss_module'),
        ),
        teacher_recorders=dict(feature=dict(type='ModuleOutputs', source='backbone.layer3.0')),
        distill_losses=dict(loss_own=dict(type='mmkdlayer.TeacherDecisionLoss', decision=decision)),
        loss_forward_mappings=dict(
            loss_own=dict(
                scores=dict(recorder='scores', from_student=True),
                teacher_feature=dict(recorder='feature', from_student=False),
                gt_label=dict(recorder='label', from_student=True, data_idx=1),
            )
        ),
    )
    model, (inputs, samples) = make_distillation(config), make_batch()
    losses = model.distiller.distill_losses
    losses['loss_own'].decision.copy_from(losses['loss_inter'].decision)
    found = model(inputs, samples, mode='loss')
    torch.testing.assert_close(found['distill.loss_own'], found['distill.loss_inter'])
    model.student.head.loss_module.register_forward_pre_hook(
        lambda module, args: (args[0], args[1].roll(1), *args[2:])
    )
    found = model(inputs, samples, mode='loss')
    assert not torch.isclose(found['distill.loss_own'], found['distill.loss_inter'])


def test_a_recorder_given_by_its_class(make_distillation, distillation_config, make_batch):
    from mmrazor.models.task_modules import ModuleOutputsRecorder

    config = distillation_config()
    config['distiller']['student_recorders'] = dict(
        fc=dict(type=ModuleOutputsRecorder, source='head.fc')
    )
    model = make_distillation(config)
    keep_records(model)
    model(*make_batch(), mode='loss')
    assert record(model, 'fc').shape == (4, 3)
