"""A student without head: trained by the distillation alone."""

from __future__ import annotations

import copy
from typing import Any, Callable

import pytest
import torch
from filled_decisions import fill_decisions
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

from mmkdlayer.errors import ConfigError

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')


@pytest.fixture
def model(distillation_config: Callable[..., dict]) -> Any:
    """A distillation of letKD-1 whose student has no head, nor a neck."""
    config = distillation_config()
    config['architecture'].pop('head')
    config['architecture'].pop('neck')
    config['distiller']['kd_layers'].pop('inter')
    return MODELS.build(config)


@pytest.mark.parametrize('samples', [None, [DataSample() for _ in range(4)]])
def test_only_the_distillation_has_a_loss(model: Any, samples: Any) -> None:
    images = torch.randn(4, 3, 16, 16)
    fill_decisions(model, images)
    model.train()
    # The teacher has a head, whose loss would need labels too.
    losses = model(images, samples, mode='loss')
    assert [name for name in losses if 'student' in name] == []
    losses['distill.loss_penult'].backward()
    # The layers after the KD layer have nothing to learn from; it and all before do.
    named = dict(model.architecture.named_parameters())
    assert all(
        parameter.grad is not None for name, parameter in named.items() if 'backbone' in name
    )
    copied = copy.deepcopy(model)
    assert copied.architecture.loss.args == (copied.architecture,)


def test_it_can_not_predict(model: Any) -> None:
    with pytest.raises(ConfigError, match='The student has no head.*val_cfg=None'):
        model(torch.randn(1, 3, 16, 16), None, mode='predict')


def test_a_student_with_a_head_is_left_alone(distillation_config: Callable[..., dict]) -> None:
    student = MODELS.build(distillation_config()).architecture
    assert 'loss' not in vars(student)
    assert 'predict' not in vars(student)
