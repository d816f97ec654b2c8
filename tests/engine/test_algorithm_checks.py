"""Settings of an algorithm that nothing would read, or that contradict each other, are refused."""

from __future__ import annotations

from typing import Any, Callable

import pytest
from mmengine.registry import MODELS

from mmkdlayer.engine import algorithm_checks
from mmkdlayer.errors import ConfigError

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')

COLOURS = dict(mean=[100.0, 110.0, 120.0], std=[50.0, 60.0, 70.0], to_rgb=True)
GREY = dict(mean=[100.0], std=[50.0])
USED = dict(type='mmpretrain.ClsDataPreprocessor', num_classes=3, **COLOURS)
MIXUP = dict(augments=[dict(type='mmpretrain.Mixup', alpha=0.8)])


def check_algorithm(model: Any, **config: Any) -> None:
    algorithm_checks.check_algorithm(model, config)


@pytest.fixture
def build(distillation_config: Callable[..., dict]) -> Callable[..., Any]:
    """An algorithm whose networks have preprocessors of their own."""

    def call(teacher: Any = None, student: Any = None, **changes: Any) -> Any:
        config = distillation_config(**{'data_preprocessor': dict(USED), **changes})
        for role, own in (('teacher', teacher), ('architecture', student)):
            if own is not None:
                config[role].update(own)
        return MODELS.build(config)

    return call


def own(**changes: Any) -> dict:
    """A network's own preprocessor."""
    return dict(data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', **changes))


@pytest.mark.parametrize(
    'teacher',
    [
        None,
        own(**COLOURS),
        own(num_classes=7, **COLOURS),
        own(),
        dict(train_cfg=MIXUP),  # of the recipe that it was trained with
    ],
)
def test_the_same_images(build: Any, teacher: Any) -> None:
    check_algorithm(build(teacher=teacher))
    check_algorithm(build(student=own(**COLOURS)))


@pytest.mark.parametrize(
    'changed',
    [
        dict(mean=[0.0, 0.0, 0.0]),
        dict(std=[1.0, 60.0, 70.0]),
        dict(to_rgb=False),
        dict(pad_size_divisor=32),
    ],
)
def test_other_images(build: Any, changed: dict) -> None:
    model = build(student=own(**{**COLOURS, **changed}))
    with pytest.raises(ConfigError, match='The student has a data_preprocessor of its own') as info:
        check_algorithm(model)
    (name, value), used = next(iter(changed.items())), {**COLOURS, 'pad_size_divisor': 1}
    assert f'{name}={value}' in str(info.value)
    assert f'{name}={used[name]}' in str(info.value)


def test_images_of_another_number_of_channels(build: Any) -> None:
    with pytest.raises(ConfigError, match=r'mean=\[100.0\], std=\[50.0\]'):
        check_algorithm(build(student=own(**GREY)))
    same = build(student=own(**GREY), data_preprocessor=dict(USED, to_rgb=False, **GREY))
    check_algorithm(same)


def test_a_group_of_teachers(build: Any, classifier_config: Any) -> None:
    teachers = dict(a=classifier_config(6), b=classifier_config(6, **own(**GREY)))
    group = dict(type='mmkdlayer.TeacherGroup', teachers=teachers)
    model = build(teacher=None)
    model.teacher = MODELS.build(group)
    for parameter in model.teacher.parameters():
        parameter.requires_grad = False
    with pytest.raises(ConfigError, match='teacher_ckpt is the file of one teacher'):
        check_algorithm(model, teacher_ckpt='a.pth')
    check_algorithm(model, teacher_ckpt=None)
    model.teacher.data_preprocessor = MODELS.build(own(**GREY)['data_preprocessor'])
    with pytest.raises(ConfigError, match='The group of teachers has a data_preprocessor'):
        check_algorithm(model)


@pytest.mark.parametrize('student', [dict(train_cfg=MIXUP), own(batch_augments=MIXUP, **COLOURS)])
def test_batch_augments_of_the_student(build: Any, student: dict) -> None:
    with pytest.raises(ConfigError, match='which are not read.*data_preprocessor.batch_augments'):
        check_algorithm(build(student=student))
    check_algorithm(build(student=student, data_preprocessor=dict(USED, batch_augments=MIXUP)))
    # Without another one, the student's is used.
    model = build(student=dict(student, **own(num_classes=3, **COLOURS)), data_preprocessor=None)
    check_algorithm(model)
    if 'train_cfg' in student:
        assert model.data_preprocessor.batch_augments is not None


def test_a_trained_teacher_with_decisions(build: Any) -> None:
    with pytest.raises(ConfigError, match=r"teacher_trainable=True.*\['inter', 'penult'\]"):
        check_algorithm(build(teacher_trainable=True))
    model = build(teacher_trainable=True, distiller=dict(type='mmkdlayer.KDLayerDistiller'))
    check_algorithm(model)


def test_options_without_effect(build: Any, distillation_config: Any) -> None:
    with pytest.raises(ConfigError, match='teacher_norm_eval=False has no effect'):
        check_algorithm(build(teacher_norm_eval=False))
    with pytest.raises(ConfigError, match='student_trainable=False has no effect'):
        check_algorithm(build(student_trainable=False))
    check_algorithm(build(student_trainable=False, calculate_student_loss=False))
    distiller = dict(distillation_config()['distiller'], teacher_dtype='bfloat16')
    fpn = build(type='mmrazor.FpnTeacherDistill', distiller=distiller)
    with pytest.raises(ConfigError, match='no effect with FpnTeacherDistill'):
        check_algorithm(fpn)
    check_algorithm(build(distiller=distiller))


def test_keys_beside_a_stock_config() -> None:
    stock = dict(cfg_path='mmpretrain::resnet/resnet18_8xb16_cifar10.py', pretrained=False)
    other = dict(stock, head=dict(type='LinearClsHead', num_classes=3, in_channels=512))
    check = algorithm_checks.check_stock_networks
    check(dict(architecture=stock, teacher=dict(type='ImageClassifier', head=other['head'])))
    check(dict(architecture=dict(stock, init_cfg=dict(type='Kaiming', layer='Conv2d'))))
    for model, key in (
        (dict(architecture=other, teacher=stock), 'architecture'),
        (dict(architecture=stock, teacher=other), 'teacher'),
        (dict(teacher=dict(type='TeacherGroup', teachers=dict(a=other))), 'teacher.teachers.a'),
    ):
        with pytest.raises(ConfigError, match=f'model.{key} has head beside cfg_path=mmpretrain::'):
            check(model)
    own = dict(stock, data_preprocessor=dict(mean=[0.0], std=[1.0]))
    with pytest.raises(ConfigError, match='model.architecture has data_preprocessor beside'):
        check(dict(architecture=own))
