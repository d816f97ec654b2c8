"""The old form of a config is answered with the new one."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.old_form import refuse_old_form

OLD = dict(
    connectors=dict(
        inter=dict(type='mmkdlayer.KDLayerConnector', in_channels=16, num_templates=6, alpha=0.5),
        plain=dict(type='other.Layer', in_channels=8, num_templates=3, extra=1),
        factor=dict(type='mmrazor.Translator'),
    ),
    student_recorders=dict(
        scores=dict(type='ModuleOutputs', source='kd_layers.inter.templates'),
        gt_label=dict(type='ModuleInputs', source='head.loss_module'),
    ),
    teacher_recorders=dict(feature=dict(type='ModuleOutputs', source='backbone.layer3.0')),
    distill_losses=dict(
        loss_inter=dict(
            type='mmkdlayer.TeacherDecisionLoss',
            decision=dict(type='mmkdlayer.SubclassDecision', num_classes=3, num_subclasses=2),
            loss_weight=2.0,
        )
    ),
    loss_forward_mappings=dict(
        loss_inter=dict(
            scores=dict(recorder='scores', from_student=True),
            teacher_feature=dict(recorder='feature', from_student=False, data_idx=1),
            gt_label=dict(recorder='gt_label', from_student=True, data_idx=1),
        )
    ),
)
PLACES = dict(inter='backbone.layer3.0', plain=dict(module='neck', output_index=0))
NEW = dict(
    inter=dict(
        module='backbone.layer3.0',
        in_channels=16,
        alpha=0.5,
        teacher='backbone.layer3.0',
        teacher_index=1,
        decision=dict(type='mmkdlayer.SubclassDecision', num_classes=3, num_subclasses=2),
        loss_weight=2.0,
    ),
    plain=dict(
        module='neck',
        output_index=0,
        in_channels=8,
        layer=dict(type='other.Layer', extra=1),
        num_templates=3,
    ),
)


def test_the_new_form_is_shown_filled_in():
    with pytest.raises(ConfigError, match='declared once') as info:
        refuse_old_form(PLACES, OLD)
    shown = str(info.value).split('write there\n\n')[1]
    assert Config.fromstring(shown, '.py').kd_layers.to_dict() == NEW


def test_what_is_not_known_stands_as_dots():
    with pytest.raises(ConfigError, match=r'in_channels=\.\.\.'):
        refuse_old_form(dict(inter='backbone.layer3.0'), {})


def test_a_config_that_is_partly_old_is_shown_as_a_whole():
    new = dict(NEW['inter'], module='backbone.layer3')
    given = dict(
        module='backbone.layer3.0', teacher='backbone.layer2', layer=dict(semantic_scale=2.0)
    )
    with pytest.raises(ConfigError) as info:
        refuse_old_form(dict(penult=new, inter=given, plain='neck'), OLD)
    shown = str(info.value).split('write there\n\n')[1]
    layers = Config.fromstring(shown, '.py').kd_layers.to_dict()
    assert layers['penult'] == new
    # What the new form says already stays; the rest is from the connector and the loss.
    assert layers['inter'] == {**NEW['inter'], **given}
    plain = dict(NEW['plain'], module='neck')
    del plain['output_index']
    assert layers['plain'] == plain


def test_supervision_that_is_known_in_part_stands_as_dots():
    given = dict(inter=dict(module='backbone.layer3.0', decision=NEW['inter']['decision']))
    connectors = dict(inter=OLD['connectors']['inter'])
    with pytest.raises(ConfigError, match=r'teacher=\.\.\.'):
        refuse_old_form(given, dict(connectors=connectors))


def test_the_new_form_is_none_of_its_business():
    # Also where a connector of mmrazor has the name of a layer.
    factor = dict(connectors=dict(factor=OLD['connectors']['factor']))
    for kd_layers, others in ((NEW, factor), (NEW, OLD), ({}, OLD)):
        assert refuse_old_form(kd_layers, others) is None


def test_a_distiller_refuses_the_old_form(distillation_config):
    from mmengine.registry import MODELS

    config = distillation_config()
    config['distiller'].update(OLD, kd_layers=PLACES)
    with pytest.raises(ConfigError, match='declared once'):
        MODELS.build(config)
