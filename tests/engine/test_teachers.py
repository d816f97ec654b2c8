"""Which teachers an algorithm has, and whose a recorder's source is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from torch import nn

from mmkdlayer.engine.teachers import Teacher, find_teachers, loads_weights, teacher_of
from mmkdlayer.errors import ConfigError

A, B = nn.Linear(1, 1), nn.Linear(2, 2)


def test_one_teacher() -> None:
    algorithm = SimpleNamespace(teacher=A)
    (found,) = find_teachers(algorithm, dict(teacher=dict(type='x'), teacher_ckpt='a.pth'))
    assert found == Teacher('', A, dict(type='x'), 'a.pth')
    assert found.source('backbone.layer4') == 'backbone.layer4'
    assert teacher_of('backbone.layer4', [found]) is found


def test_group_of_teachers() -> None:
    group = SimpleNamespace(members=dict(a=A, ab=B), checkpoints=dict(ab='b.pth'))
    config = dict(teacher=dict(type='g', teachers=dict(a=dict(type='x'), ab=dict(type='y'))))
    found = find_teachers(SimpleNamespace(teacher=group), config)
    assert found == [
        Teacher('a', A, dict(type='x'), None),
        Teacher('ab', B, dict(type='y'), 'b.pth'),
    ]
    assert teacher_of('ab.backbone', found) is found[1]
    assert found[1].source('ab.backbone') == 'backbone'
    with pytest.raises(ConfigError, match=r'"backbone".*\[.a., .ab.\].*"a.backbone.layer4"'):
        teacher_of('backbone', found)


def test_teachers_of_a_data_free_algorithm() -> None:
    config = dict(teachers=dict(big=dict(build_cfg=dict(type='x'), ckpt_path='a.pth')))
    found = find_teachers(SimpleNamespace(teachers=nn.ModuleDict(dict(big=A))), config)
    assert found == [Teacher('big', A, dict(type='x'), 'a.pth')]


def test_self_distillation_has_none() -> None:
    assert find_teachers(SimpleNamespace(), {}) == []


@pytest.mark.parametrize(
    ('config', 'expected'),
    [
        ({}, False),
        (dict(cfg_path='x.py', pretrained=False), False),
        (dict(cfg_path='x.py', pretrained=True), True),
        (dict(type='C', pretrained='a.pth'), True),
        (dict(type='C', backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='a.pth'))), True),
        (dict(type='C', backbone=dict(init_cfg=[dict(type='Kaiming')])), False),
        (dict(type='C', init_cfg=[dict(type='Kaiming'), dict(type='Pretrained')]), True),
    ],
)
def test_config_that_loads_weights(config: dict, expected: bool) -> None:
    assert loads_weights(config) is expected
