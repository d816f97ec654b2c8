"""Losses that need networks of another kind than the others: tokens, and the teacher's classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from conftest import tiny_distillation
from filled_decisions import fill_decisions
from mixing_cases import build
from mixing_networks import simkd, vitkd
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')


def check_same_layers(alone: nn.Module, mixed: nn.Module, batch: tuple) -> dict[str, Any]:
    """The losses of the KD layers and of the student are as without the mix; all gradients finite."""
    mixed.load_state_dict(alone.state_dict(), strict=False)
    mixed.teacher.load_state_dict(alone.teacher.state_dict())
    expected, losses = alone(*batch, mode='loss'), mixed(*batch, mode='loss')
    assert set(losses) == {*expected, 'distill.loss_mixed'}
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value, msg=key)
    mixed.parse_losses(losses)[0].backward()
    found = {n: p.grad for n, p in mixed.named_parameters() if p.grad is not None}
    assert all(torch.isfinite(x).all() for x in found.values())
    assert {n for n in found if '.kd_layers.' in n} == {
        n for n, _ in mixed.named_parameters() if '.kd_layers.' in n
    }
    return losses


def test_vitkd(make_batch: Callable) -> None:
    alone, mixed = map(build, vitkd(tiny_distillation()))
    images, samples = make_batch()
    for model in (alone, mixed):
        fill_decisions(model, images)
    losses = check_same_layers(alone, mixed, (images, samples))
    assert losses['distill.loss_mixed'] > 0
    assert all(p.grad is not None for p in mixed.distiller.distill_losses.loss_mixed.parameters())


def test_simkd(distillation_config, make_distillation, make_batch) -> None:
    alone, mixed = map(make_distillation, simkd(distillation_config()))
    seen = {}
    mixed.student.neck[0].register_forward_hook(lambda m, args, out: seen.update(student=out[0]))
    mixed.teacher.backbone.register_forward_hook(lambda m, args, out: seen.update(teacher=out[-1]))
    losses = check_same_layers(alone, mixed, make_batch())
    expected = ((seen['student'] - seen['teacher']) ** 2).mean()
    torch.testing.assert_close(losses['distill.loss_mixed'], expected)


def test_simkd_keeps_the_teachers_classifier(
    distillation_config, make_distillation, make_batch, tmp_path: Path
) -> None:
    """As ``configs/mix/simkd_*.py`` say it: by ``init_cfg`` and learning rates of zero."""
    root = Path(__file__).resolve().parents[2] / 'configs' / 'mix'
    cfg = Config.fromfile(root / 'simkd_resnet32x4_resnet8x4_cifar100.py')
    head, custom_keys = cfg.model.architecture.head, cfg.optim_wrapper.paramwise_cfg
    assert head.init_cfg.checkpoint == cfg.model.teacher_ckpt
    teacher = make_distillation(distillation_config()).teacher
    torch.save(teacher.state_dict(), tmp_path / 'teacher.pth')
    init_cfg = dict(head.init_cfg, checkpoint=str(tmp_path / 'teacher.pth'))
    _, config = simkd(distillation_config(), init_cfg=init_cfg, loss=dict(head.loss))
    config['distiller'].pop('kd_layers')
    model = build(config)
    wrapper = build_optim_wrapper(
        model,
        dict(
            optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.1),
            paramwise_cfg=custom_keys,
        ),
    )
    before = model.student.backbone.conv1.weight.clone()
    for _ in range(2):
        losses = model(*make_batch(), mode='loss')
        assert losses['student.loss'] == 0
        wrapper.update_params(model.parse_losses(losses)[0])
    assert torch.equal(model.student.head.fc.weight, teacher.head.fc.weight)
    assert torch.equal(model.student.head.fc.bias, teacher.head.fc.bias)
    assert not torch.equal(model.student.backbone.conv1.weight, before)
