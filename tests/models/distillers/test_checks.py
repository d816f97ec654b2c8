"""A distiller's arguments: known, of the right kind, and each of them used."""

from __future__ import annotations

from typing import Any

import pytest

from mmkdlayer.errors import ConfigError

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')

FEATURE = dict(type='ModuleOutputs', source='backbone.layer3')
INPUTS = dict(
    s_feature=dict(recorder='feature', from_student=True),
    t_feature=dict(recorder='feature', from_student=False),
)


def build(config: dict, **distiller: Any) -> Any:
    """The algorithm, with more arguments of its distiller."""
    from mmengine.registry import MODELS

    config['distiller'].update(distiller)
    return MODELS.build(config)


def with_loss(**changes: Any) -> dict:
    """Arguments of a distiller with one more loss."""
    arguments = dict(
        student_recorders=dict(feature=FEATURE),
        teacher_recorders=dict(feature=FEATURE),
        distill_losses=dict(loss_l2=dict(type='mmrazor.L2Loss')),
        loss_forward_mappings=dict(loss_l2=INPUTS),
    )
    return {**arguments, **changes}


def test_a_loss_that_runs(distillation_config):
    assert 'loss_l2' in build(distillation_config(), **with_loss()).distiller.distill_losses


@pytest.mark.parametrize('name', ['save_teacher', 'stop_teacher_early', 'teacher_channels_last'])
@pytest.mark.parametrize('value', ['False', 0, None, 'no'])
def test_what_is_true_or_false(name, value, distillation_config):
    with pytest.raises(ConfigError, match=f'{name} must be True or False, but got {value!r}'):
        build(distillation_config(), **{name: value})


@pytest.mark.parametrize('name', ['teacher_dtype', 'teacher_channels_last'])
def test_options_of_a_frozen_teacher_with_one_that_is_trained(name, distillation_config):
    value = 'bfloat16' if name == 'teacher_dtype' else True
    with pytest.raises(ConfigError, match='are for a frozen teacher, but this one is trained'):
        build(distillation_config(teacher_trainable=True), **{name: value})


def mapping(**changes: Any) -> dict:
    """A mapping of the loss with another entry for the student's feature."""
    record = {**INPUTS['s_feature'], **changes}
    return dict(loss_l2=dict(INPUTS, s_feature={k: v for k, v in record.items() if v is not None}))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(loss_forward_mappings={}), 'distill_losses has loss_l2, which would never run'),
        (
            dict(connectors=dict(conv=dict(type='mmrazor.ConvModuleConnector'))),
            'connectors has conv, which would never run',
        ),
        (dict(distill_losses={}), 'there is no "loss_l2" in distill_losses. Near matches: '),
        (
            dict(distill_losses=dict(loss_l1=dict(type='mmrazor.L1Loss'))),
            'there is no "loss_l2" in distill_losses. Near matches: loss_l1',
        ),
        (
            dict(loss_forward_mappings=mapping(recorder='featur')),
            r'loss_l2.s_feature.recorder: there is no "featur" in student_recorders. Near .*feature',
        ),
        (
            dict(loss_forward_mappings=mapping(connector='conv')),
            's_feature.connector: there is no "conv" in connectors. It has: ',
        ),
        (dict(loss_forward_mappings=mapping(recorder=None)), r's_feature must be a dict such as'),
        (dict(loss_forward_mappings=mapping(from_student='yes')), 's_feature must be a dict such'),
        (dict(loss_forward_mappings=dict(loss_l2='feature')), "must be a dict, but got 'feature'"),
        (dict(loss_forward_mappings=['loss_l2']), 'mappings must be a dict, but got'),
        (dict(student_recorders=['feature']), 'student_recorders must be a dict, but got'),
    ],
)
def test_mappings(changes, message, distillation_config):
    with pytest.raises(ConfigError, match=message):
        build(distillation_config(), **with_loss(**changes))


def test_an_input_that_the_loss_does_not_have(distillation_config):
    arguments = with_loss(
        loss_forward_mappings=dict(loss_l2=dict(INPUTS, s_featur=INPUTS['s_feature']))
    )
    with pytest.raises(ConfigError, match='s_featur is not in the signature of L2Loss'):
        build(distillation_config(), **arguments)


def test_what_is_none_is_taken_out(distillation_config):
    arguments = with_loss(connectors=dict(conv=None), teacher_recorders=dict(feature=None))
    arguments['distill_losses'] = dict(loss_l2=None)
    arguments['loss_forward_mappings'] = dict(loss_l2=None)
    distiller = build(distillation_config(), **arguments).distiller
    assert sorted(distiller.distill_losses) == ['loss_inter', 'loss_penult']
    assert (
        'conv' not in distiller.connectors
        and 'feature' not in distiller.teacher_recorders.recorders
    )


def test_an_input_that_the_loss_lacks(distillation_config):
    arguments = with_loss(loss_forward_mappings=dict(loss_l2=dict(s_feature=INPUTS['s_feature'])))
    with pytest.raises(
        ConfigError, match='loss_l2 lacks t_feature, which L2Loss needs; it has s_f'
    ):
        build(distillation_config(), **arguments)
