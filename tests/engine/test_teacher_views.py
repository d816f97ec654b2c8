"""Teachers that state a normalisation of their own get it, in fitting and in training alike."""

from __future__ import annotations

from typing import Any, Callable

import pytest
import torch
from mmengine.registry import MODELS
from mmpretrain.datasets import NumpyToPIL
from torch import Tensor, nn

from mmkdlayer.engine.teacher_views import connect_views, loads_bgr
from mmkdlayer.errors import ConfigError
from mmkdlayer.models.teachers import TeacherModule, find_view
from mmkdlayer.models.teachers.view import describe_view

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')

USED = dict(
    type='mmpretrain.ClsDataPreprocessor', mean=[100.0, 110.0, 120.0], std=[50.0, 60.0, 70.0]
)
USED.update(to_rgb=True, num_classes=3)
OWN = dict(mean=[127.5, 128.0, 128.5], std=[127.5, 127.0, 126.5], to_rgb=False)
FILES = dict(train_dataloader=dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile')])))
IN_MEMORY = dict(train_dataloader=dict(dataset=dict(pipeline=[dict(type='PackInputs')])))


def own(**changes: Any) -> dict:
    return dict(data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', **changes))


@pytest.fixture
def build(distillation_config: Callable[..., dict]) -> Callable[..., Any]:
    """An algorithm whose teacher states a preprocessor, or is another one."""

    def call(teacher: dict, replace: bool = False, **changes: Any) -> Any:
        config = distillation_config(**{'data_preprocessor': dict(USED), **changes})
        config['teacher'] = teacher if replace else dict(config['teacher'], **teacher)
        return MODELS.build(config)

    return call


def seen_by(module: nn.Module) -> list[Tensor]:
    found: list[Tensor] = []
    module.register_forward_pre_hook(lambda module, args: found.append(args[0]))
    return found


def batch(preprocessor: nn.Module) -> Tensor:
    image = torch.arange(3 * 16 * 16).remainder(256).view(3, 16, 16).to(torch.uint8)
    return preprocessor(dict(inputs=[image, image.flip(0)]), False)['inputs']


def test_a_model_of_mmpretrain(build: Any) -> None:
    model = build(own(**OWN))
    seen = seen_by(model.teacher.backbone)
    connect_views(model, FILES)
    connect_views(model, FILES)  # as a second training of the same model does
    model.teacher(batch(model.data_preprocessor), mode='tensor')
    expected = batch(MODELS.build(own(**OWN)['data_preprocessor']))
    torch.testing.assert_close(seen[0], expected, rtol=1e-5, atol=1e-5)


def test_a_loop_that_replaces_the_preprocessor(build: Any) -> None:
    # mmrazor's SingleTeacherDistillValLoop, which is built before the decisions are prepared.
    model = build(own(**OWN))
    stated, model.teacher.data_preprocessor = (
        model.teacher.data_preprocessor,
        model.data_preprocessor,
    )
    seen = seen_by(model.teacher.backbone)
    connect_views(model, FILES)
    model.teacher(batch(model.data_preprocessor), mode='tensor')
    torch.testing.assert_close(seen[0], batch(stated), rtol=1e-5, atol=1e-5)


def same(**changes: Any) -> dict:
    return own(**{key: USED[key] for key in ('mean', 'std', 'to_rgb')}, **changes)


@pytest.mark.parametrize('teacher', [{}, own(), own(num_classes=7), same(), same(num_classes=7)])
def test_a_teacher_of_the_same_images(build: Any, teacher: dict) -> None:
    model = build(teacher)
    seen, images = seen_by(model.teacher.backbone), batch(model.data_preprocessor)
    connect_views(model, FILES)
    model.teacher(images, mode='tensor')
    assert seen[0] is images


def test_what_is_more_than_a_normalisation_is_refused(build: Any) -> None:
    with pytest.raises(ConfigError, match='pad_size_divisor=32.*what else it does'):
        connect_views(build(own(**OWN, pad_size_divisor=32)), FILES)
    with pytest.raises(ConfigError, match='images of one channel'):
        connect_views(build(own(mean=[1.0], std=[2.0])), FILES)


def test_one_teacher_of_a_group(build: Any, classifier_config: Any) -> None:
    teachers = dict(a=classifier_config(6), b=classifier_config(6, **own(**OWN)))
    model = build(
        dict(type='mmkdlayer.TeacherGroup', teachers=teachers),
        replace=True,
        distiller=dict(type='mmkdlayer.KDLayerDistiller'),
    )
    seen = {name: seen_by(model.teacher.members[name].backbone) for name in teachers}
    images = batch(model.data_preprocessor)
    connect_views(model, FILES)
    model.teacher(images, mode='tensor')
    assert seen['a'][0] is images
    stated = MODELS.build(own(**OWN)['data_preprocessor'])
    torch.testing.assert_close(seen['b'][0], batch(stated), rtol=1e-5, atol=1e-5)


def test_extract_feat_alone_is_refused(build: Any) -> None:
    model = build(own(**OWN), type='mmrazor.FpnTeacherDistill')
    with pytest.raises(ConfigError, match='FpnTeacherDistill runs its extract_feat alone'):
        connect_views(model, FILES)
    connect_views(build({}, type='mmrazor.FpnTeacherDistill'), FILES)


def module(**changes: Any) -> dict:
    """Config of a convolution as the teacher; its only weights are ones."""
    return dict(
        type='mmkdlayer.TeacherModule',
        source='torch.nn:Conv2d',
        arguments=dict(in_channels=3, out_channels=2, kernel_size=1),
        **{'mean': [127.5, 128.0, 128.5], 'std': [127.5, 127.0, 126.5], **changes},
    )


def of_module(build: Any, used: dict | None = None, **changes: Any) -> Any:
    return build(
        module(**changes),
        replace=True,
        data_preprocessor=USED if used is None else used,
        distiller=dict(type='mmkdlayer.KDLayerDistiller'),
    )


@pytest.mark.parametrize(('cfg', 'reverses'), [(FILES, True), (IN_MEMORY, False), ({}, True)])
def test_a_module_takes_rgb(build: Any, cfg: dict, reverses: bool) -> None:
    model = of_module(build)
    assert isinstance(model.teacher, TeacherModule)
    seen = seen_by(model.teacher.model)
    connect_views(model, cfg)
    model.teacher(batch(model.data_preprocessor), mode='loss')
    stated = MODELS.build(own(**{**OWN, 'to_rgb': reverses})['data_preprocessor'])
    torch.testing.assert_close(seen[0], batch(stated), rtol=1e-5, atol=1e-5)


def test_a_module_is_not_trained_on_what_it_does_not_know(build: Any) -> None:
    model = of_module(build)
    with pytest.raises(ConfigError, match='has not been told how.*mmkdlayer.FitDecisionsHook'):
        model.teacher(batch(model.data_preprocessor), mode='loss')
    connect_views(model, FILES)
    assert model.teacher(batch(model.data_preprocessor), mode='loss') == {}


def test_a_module_says_its_order_of_channels(build: Any) -> None:
    model = of_module(build, to_rgb=False)
    seen = seen_by(model.teacher.model)
    connect_views(model, FILES)
    model.teacher(batch(model.data_preprocessor))
    stated = MODELS.build(own(**OWN)['data_preprocessor'])
    torch.testing.assert_close(seen[0], batch(stated), rtol=1e-5, atol=1e-5)


def test_a_module_takes_padded_images_too(build: Any) -> None:
    model = of_module(build, dict(USED, pad_size_divisor=32))
    connect_views(model, FILES)
    view = find_view(model.teacher)
    assert view is not None and view.converts


class Halves(nn.Module):
    """A data preprocessor of one's own."""

    def forward(self, data: dict, training: bool = False) -> dict:
        return dict(inputs=torch.stack(data['inputs']).float() / 2, data_samples=None)


def test_a_normalisation_that_is_not_known_is_refused(build: Any) -> None:
    model = of_module(build)
    model.data_preprocessor = Halves()
    with pytest.raises(ConfigError, match='that of Halves is none that is known'):
        connect_views(model, FILES)
    steps = [dict(type='LoadImageFromFile'), dict(type='mmcv.Normalize', mean=[0.0], std=[1.0])]
    cfg = dict(train_dataloader=dict(dataset=dict(pipeline=steps)))
    with pytest.raises(ConfigError, match="that of the pipeline's Normalize is none"):
        connect_views(of_module(build), cfg)


def test_the_order_of_channels_of_a_pipeline() -> None:
    steps: list[Any] = [dict(type='LoadImageFromFile'), NumpyToPIL(to_rgb=True)]
    back = dict(type='PILToNumpy', to_bgr=True)
    for pipeline, bgr in ((steps[:1], True), (steps, False), ([*steps, back], True)):
        assert loads_bgr(dict(train_dataloader=dict(dataset=dict(pipeline=pipeline)))) == bgr


def test_the_view_is_a_part_of_what_a_decision_is_fitted_on(build: Any) -> None:
    plain, other = build({}), build(own(**OWN))
    for model in (plain, other):
        connect_views(model, FILES)
    assert describe_view(plain.teacher) == {}
    assert describe_view(other.teacher) == dict(
        mean=(127.5, 128.0, 128.5), std=(127.5, 127.0, 126.5), reverses=False
    )
