"""What needs the student of a config alone needs neither the teacher's library nor its weights."""

from __future__ import annotations

from typing import Any, Callable

import pytest
from mmengine.registry import MODELS

from mmkdlayer.models.teachers import TeacherModule, TeacherPlaces, without_teacher_modules

#: Can't be built.
ABSENT = dict(type='mmkdlayer.TeacherModule', source='not_there:network', weights=True)


def test_it_has_the_names_alone() -> None:
    places = TeacherPlaces(['model.blocks.1', 'model.blocks.1.mlp', 'model.norm'])
    names = [name for name, _ in places.named_modules() if name.startswith('model')]
    assert names == ['model', 'model.blocks', 'model.blocks.1', 'model.blocks.1.mlp', 'model.norm']
    assert not list(places.parameters())


def test_an_algorithm_is_built_without_its_teacher(
    distillation_config: Callable[..., dict],
) -> None:
    pytest.importorskip('mmrazor', reason='distillation needs mmrazor')
    config = distillation_config()
    config['teacher'] = ABSENT
    config['distiller']['teacher_recorders'] = dict(
        more=dict(type='ModuleOutputs', source='model.more')
    )
    for name, layer in config['distiller']['kd_layers'].items():
        layer['teacher'] = f'model.{name}'
    model: Any = MODELS.build(without_teacher_modules(config))
    assert sorted(model.student.kd_layers) == ['inter', 'penult']
    assert config['teacher'] is ABSENT


def test_one_of_a_group(classifier_config: Callable[..., dict]) -> None:
    group = dict(type='mmkdlayer.TeacherGroup', teachers=dict(a=ABSENT, b=classifier_config()))
    layers = dict(one=dict(teacher='a.model.norm'), two=dict(teacher='b.backbone'), three=dict())
    found = without_teacher_modules(dict(teacher=group, distiller=dict(kd_layers=layers)))
    a, b = found['teacher']['teachers'].values()
    assert a == dict(type='mmkdlayer.TeacherPlaces', names=['model.norm'])
    assert b == classifier_config()
    same = dict(type='mmpretrain.ImageClassifier')
    assert without_teacher_modules(same) == same


def test_a_class_as_the_type() -> None:
    config = dict(teacher=dict(ABSENT, type=TeacherModule), distiller=dict())
    assert without_teacher_modules(config)['teacher'] == dict(
        type='mmkdlayer.TeacherPlaces', names=[]
    )
