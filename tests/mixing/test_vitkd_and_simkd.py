"""Losses that need networks of another kind than the others: tokens, and the teacher's classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from conftest import tiny_distillation
from filled_decisions import fill_decisions
from mixing_cases import CLASSES, STUDENT, TEACHER, build
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')


def with_loss(config: dict, loss: dict, mapping: dict, ours: dict, theirs: dict) -> dict:
    """The config with one more loss, ``loss_mixed``."""
    more = dict(
        student_recorders=ours,
        teacher_recorders=theirs,
        distill_losses=dict(loss_mixed=loss),
        loss_forward_mappings=dict(loss_mixed=mapping),
    )
    return dict(config, distiller=dict(config['distiller'], **more))


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


def transformer(channels: int) -> dict:
    arch = dict(embed_dims=channels, num_layers=3, num_heads=2, feedforward_channels=2 * channels)
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.VisionTransformer', arch=arch, img_size=16, patch_size=4),
        head=dict(
            type='mmpretrain.VisionTransformerClsHead', num_classes=CLASSES, in_channels=channels
        ),
    )


def test_vitkd(make_batch: Callable) -> None:
    config = tiny_distillation(architecture=transformer(16), teacher=transformer(TEACHER))
    for index, name in enumerate(('inter', 'penult')):
        block = f'backbone.layers.{index}'
        config['distiller']['kd_layers'][name].update(module=block, teacher=block, in_channels=16)
    blocks = ('first', 'second', 'last')
    recorders = {
        name: dict(type='ModuleOutputs', source=f'backbone.layers.{index}')
        for index, name in enumerate(blocks)
    }
    mapping = {
        f'{name}_{role}': dict(recorder=name, from_student=role == 'S')
        for name in blocks
        for role in 'ST'
    }
    loss = dict(type='mmkdlayer.ViTKDLoss', student_channels=16, teacher_channels=TEACHER)
    alone, mixed = build(config), build(with_loss(config, loss, mapping, recorders, recorders))
    images, samples = make_batch()
    for model in (alone, mixed):
        fill_decisions(model, images)
    losses = check_same_layers(alone, mixed, (images, samples))
    assert losses['distill.loss_mixed'] > 0
    assert all(p.grad is not None for p in mixed.distiller.distill_losses.loss_mixed.parameters())


def simkd(distillation_config: Callable, **head: Any) -> tuple[dict, dict]:
    """letKD-2 of a student with the teacher's classifier, alone and with SimKD's loss."""
    config = distillation_config()
    student = config['architecture']
    student['neck'] = [
        dict(type='mmkdlayer.SimKDProjector', in_channels=STUDENT, out_channels=TEACHER),
        student['neck'],
    ]
    student['head'].update(in_channels=TEACHER, **head)
    mapping = dict(
        s_feature=dict(recorder='projected', from_student=True),
        t_feature=dict(recorder='last', from_student=False, data_idx=0),
    )
    mixed = with_loss(
        config,
        dict(type='mmrazor.L2Loss', normalize=False, div_element=True),
        mapping,
        dict(projected=dict(type='ModuleOutputs', source='neck.0.layers')),
        dict(last=dict(type='ModuleInputs', source='neck.gap')),
    )
    return config, mixed


def test_simkd(distillation_config, make_distillation, make_batch) -> None:
    alone, mixed = map(make_distillation, simkd(distillation_config))
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
    _, config = simkd(distillation_config, init_cfg=init_cfg, loss=dict(head.loss))
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
