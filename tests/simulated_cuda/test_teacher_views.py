"""A teacher's own normalisation and size on a simulated device."""

from __future__ import annotations

import copy
from typing import Any, Callable

import pytest
from conftest import tiny_classifier, tiny_distillation
from filled_decisions import fill_decisions
from mmengine.registry import MODELS

from mmkdlayer.engine.teacher_views import connect_views
from mmkdlayer.models.teachers import find_view
from simulated_cuda.device import SimulatedCuda
from simulated_cuda.training import assert_steady, sgd, train

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')


def preprocessor(mean: float, std: float, to_rgb: bool) -> dict:
    kind = 'mmpretrain.ClsDataPreprocessor'
    return dict(type=kind, mean=[mean, mean + 1, mean + 2], std=[std] * 3, to_rgb=to_rgb)


@pytest.mark.parametrize('size', [None, 32])
def test_the_batch_is_made_on_the_device(
    make_batch: Callable, cuda: SimulatedCuda, size: int | None
) -> None:
    own = preprocessor(127.5, 127.5, False)
    teacher: dict[str, Any] = tiny_classifier(6, data_preprocessor=own)
    config = tiny_distillation(data_preprocessor=preprocessor(100.0, 50.0, True))
    if size:
        teacher = dict(type='mmkdlayer.TeacherModule', source=teacher, input_size=size)
        for layer in config['distiller']['kd_layers'].values():
            layer['teacher'] = f'model.{layer["teacher"]}'
    config['teacher'] = teacher
    model = MODELS.build(config)
    fill_decisions(model, make_batch()[0])
    model.train()
    connect_views(model, {})
    view = find_view(model.teacher)
    assert view is not None and view.converts
    batches = [make_batch(seed=step) for step in range(3)]
    twin = copy.deepcopy(model)
    found, expected = (
        train(each, batches, device, sgd) for each, device in ((model, cuda), (twin, None))
    )
    assert_steady(found)
    # Later steps have the roundings of this one in them, and decisions that these tip over.
    assert found.logs[0] == pytest.approx(expected.logs[0], rel=1e-5)
