"""Steps of distillation: the losses against the formulas, and what may surround a step."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import OptimWrapper
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmkdlayer.errors import ConfigError

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')


def kl_by_loops(target: Tensor, scores: Tensor) -> float:
    total, count = 0.0, 0
    rows = zip(target.movedim(1, -1).flatten(0, 2), scores.movedim(1, -1).flatten(0, 2))
    for row, score in rows:
        partition = math.log(math.fsum(math.exp(s) for s in score.double().tolist()))
        pairs = zip(row.double().tolist(), score.double().tolist())
        total += sum(p * (math.log(p) - s + partition) for p, s in pairs if p > 0)
        count += 1
    return total / count


def expected_losses(model: nn.Module, inputs: Tensor, label: Tensor) -> dict[str, float]:
    """The losses from features that plain forward hooks see."""
    seen: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(
            lambda module, args, out, name=name: seen.update({name: out.detach()})
        )
        for name, module in (
            ('teacher.inter', model.teacher.backbone.layer3[0]),
            ('teacher.penult', model.teacher.backbone.layer3),
            ('student.inter', model.student.kd_layers['inter'].templates),
            ('student.penult', model.student.kd_layers['penult'].templates),
        )
    ]
    twin_state = copy.deepcopy(model.student.state_dict())
    model.teacher(inputs)
    model.student(inputs)
    model.student.load_state_dict(twin_state)  # the running statistics
    for handle in handles:
        handle.remove()
    found = {}
    for name in ('inter', 'penult'):
        decision = model.distiller.distill_losses[f'loss_{name}'].decision
        target = decision.decide(seen[f'teacher.{name}'].double(), label)
        found[f'distill.loss_{name}'] = kl_by_loops(target, seen[f'student.{name}'])
    return found


def steps(model: nn.Module, batch: tuple, count: int = 1) -> list[dict]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optim_wrapper = OptimWrapper(torch.optim.SGD(parameters, lr=0.1))
    data = dict(inputs=batch[0], data_samples=batch[1])
    return [model.train_step(data, optim_wrapper) for _ in range(count)]


def gradients(model: nn.Module, batch: tuple, part: str = '') -> dict[str, Tensor]:
    model.zero_grad()
    losses = model(*batch, mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name and part in name).backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def test_losses_are_the_divergences_of_the_formulas(make_distillation, make_batch):
    model, (inputs, samples) = make_distillation(), make_batch(5)
    expected = expected_losses(model, inputs, torch.arange(5) % 3)
    losses = model(inputs, samples, mode='loss')
    assert set(losses) == {'student.loss', *expected}
    for name, value in expected.items():
        assert float(losses[name].detach()) == pytest.approx(value, abs=1e-5), name


def test_a_teacher_with_larger_maps_is_pooled(make_distillation, distillation_config, make_batch):
    config = distillation_config()
    config['teacher']['backbone']['strides'] = (1, 2, 1)
    model, (inputs, samples) = make_distillation(config), make_batch(3)
    expected = pooled_losses(model, inputs, torch.arange(3))
    losses = model(inputs, samples, mode='loss')
    for name, value in expected.items():
        assert float(losses[name].detach()) == pytest.approx(value, abs=1e-5), name


def pooled_losses(model: nn.Module, inputs: Tensor, label: Tensor) -> dict[str, float]:
    """As :func:`expected_losses`, where the teacher's map is 8x8 and the student's 4x4."""
    decisions = [loss.decision for loss in model.distiller.distill_losses.values()]
    originals = [decision.decide for decision in decisions]
    for decision, decide in zip(decisions, originals):

        def pooled(feature: Tensor, label: Tensor, decide: Any = decide) -> Tensor:
            assert feature.shape[2:] == (8, 8)
            quarters = [feature[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
            return decide(sum(quarters) / 4, label)

        decision.decide = pooled
    try:
        return expected_losses(model, inputs, label)
    finally:
        for decision in decisions:
            del decision.decide


def test_training_lowers_the_losses(make_distillation, make_batch):
    model, batch = make_distillation(), make_batch(6)
    teacher = copy.deepcopy(model.teacher.state_dict())
    logs = steps(model, batch, 12)
    for name in ('student.loss', 'distill.loss_inter', 'distill.loss_penult'):
        assert logs[-1][name].item() < logs[0][name].item(), name
    for name, value in model.teacher.state_dict().items():
        assert torch.equal(value, teacher[name]), name


def test_each_kd_layer_learns_from_its_loss_alone(make_distillation, make_batch):
    model, batch = make_distillation(), make_batch()
    found = gradients(model, batch, 'loss_inter')
    assert found['architecture.kd_layers.inter.templates.weight'].abs().sum() > 0
    assert not any('kd_layers.penult' in name or 'semantics' in name for name in found)
    assert not any(name.startswith('teacher') for name in found)


def test_another_distillation_loss_does_not_change_ours(
    make_distillation, distillation_config, make_batch
):
    config = distillation_config()
    distiller = config['distiller']
    for side in ('student', 'teacher'):
        distiller.setdefault(f'{side}_recorders', {})['fc'] = dict(
            type='ModuleOutputs', source='head.fc'
        )
    distiller.setdefault('distill_losses', {})['loss_kl'] = dict(type='mmrazor.KLDivergence', tau=2)
    distiller.setdefault('loss_forward_mappings', {})['loss_kl'] = dict(
        preds_S=dict(recorder='fc', from_student=True),
        preds_T=dict(recorder='fc', from_student=False),
    )
    alone, mixed, batch = make_distillation(), make_distillation(config), make_batch()
    mixed.load_state_dict(alone.state_dict())
    mixed.teacher.load_state_dict(alone.teacher.state_dict())
    expected, found = alone(*batch, mode='loss'), mixed(*batch, mode='loss')
    assert found.pop('distill.loss_kl').item() > 0
    assert {k: v.item() for k, v in found.items()} == {k: v.item() for k, v in expected.items()}


def test_alpha_zero_supervises_and_leaves_the_logits(
    make_distillation, distillation_config, classifier_config, make_batch
):
    from mmengine.registry import MODELS

    config = distillation_config()
    for layer in config['distiller']['kd_layers'].values():
        layer['alpha'] = 0
    model, batch = make_distillation(config), make_batch()
    plain = MODELS.build(classifier_config())
    plain.load_state_dict(
        {k: v for k, v in model.student.state_dict().items() if not k.startswith('kd_layers')}
    )
    assert torch.equal(model.student.eval()(batch[0]), plain.eval()(batch[0]))
    found = gradients(model, batch)
    assert found['architecture.kd_layers.penult.templates.weight'].abs().sum() > 0
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert set(found) == trained  # nothing is unused, so DDP needs no search for it


def test_mixup_trains_with_mixed_decisions(
    make_distillation, distillation_config, make_batch, monkeypatch
):
    preprocessor = dict(
        type='mmpretrain.ClsDataPreprocessor',
        num_classes=3,
        mean=[100.0] * 3,
        std=[50.0] * 3,
        batch_augments=dict(augments=[dict(type='Mixup', alpha=1.0)]),
    )
    model = make_distillation(distillation_config(data_preprocessor=preprocessor))
    model.distiller.release_records = lambda: None
    _, samples = make_batch()
    images = [torch.randint(0, 255, (3, 16, 16), dtype=torch.uint8) for _ in samples]
    (log,) = steps(model, (images, samples))
    assert all(math.isfinite(value.item()) for value in log.values())

    record = model.distiller.get_record
    soft = model.distiller.data_samples.labels()
    assert soft.shape == (4, 3) and ((soft > 0.01).sum(1) > 1).any()
    decision = model.distiller.distill_losses['loss_inter'].decision
    feature = record('kd_layers.inter.teacher', from_student=False).double()
    target = sum(
        soft[:, y, None, None, None].double()
        * decision.decide(feature, torch.full((4,), y, dtype=torch.long))
        for y in range(3)
    )
    expected = kl_by_loops(target, record('kd_layers.inter.templates', from_student=True).detach())
    assert log['distill.loss_inter'].item() == pytest.approx(expected, abs=1e-5)


def test_label_smoothing_and_scores_in_the_samples(make_distillation, make_batch):
    model, (inputs, samples) = make_distillation(), make_batch()
    hard = model(inputs, samples, mode='loss')['distill.loss_inter']
    for sample in samples:
        sample.set_gt_score(torch.nn.functional.one_hot(sample.gt_label[0], 3).float())
    one_hot = model(inputs, samples, mode='loss')['distill.loss_inter']
    torch.testing.assert_close(one_hot, hard)


def test_mixed_precision_is_close(make_distillation, make_batch):
    model, batch = make_distillation(), make_batch()
    twin = copy.deepcopy(model)
    expected = {name: float(loss.detach()) for name, loss in model(*batch, mode='loss').items()}
    with torch.autocast('cpu', torch.bfloat16):
        losses = twin(*batch, mode='loss')
        sum(loss for name, loss in losses.items() if 'loss' in name).backward()
    for name, value in expected.items():
        assert losses[name].dtype == torch.float32
        assert float(losses[name].detach()) == pytest.approx(value, rel=0.03), name
    for name, parameter in twin.named_parameters():
        if parameter.requires_grad:
            assert torch.isfinite(parameter.grad).all(), name
            assert 'kd_layers' not in name or parameter.grad.abs().sum() > 0, name


def test_a_copy_that_has_trained_is_independent(make_distillation, make_batch):
    model, batch = make_distillation(), make_batch()
    steps(model, batch)
    twin = copy.deepcopy(model)
    before, logits = copy.deepcopy(model.state_dict()), model.student.eval()(batch[0])
    tables = [
        [m.distiller.distill_losses[n].decision for m in (model, twin)]
        for n in ('loss_inter', 'loss_penult')
    ]
    assert tables[0][0].decisions is tables[0][1].decisions
    assert tables[1][0].centroids is tables[1][1].centroids
    (log,) = steps(twin, batch)
    assert torch.equal(model.student(batch[0]), logits)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.student.train()
    assert steps(model, batch)[0].keys() == log.keys()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, twin.state_dict()[name], msg=name)


def test_an_averaged_model_distils_with_layers_of_its_own(make_distillation, make_batch):
    model, batch = make_distillation(), make_batch()
    averaged = ExponentialMovingAverage(model, momentum=0.5)
    for _ in range(2):
        steps(model, batch)
        averaged.update_parameters(model)
    twin = averaged.module
    assert not any(key.startswith('module.teacher') for key in averaged.state_dict())
    ours = model.student.kd_layers['inter'].templates.weight
    assert not torch.equal(twin.student.kd_layers['inter'].templates.weight, ours)
    expected = expected_losses(twin, batch[0], torch.arange(4) % 3)
    losses = twin(*batch, mode='loss')
    for name, value in expected.items():
        assert float(losses[name].detach()) == pytest.approx(value, abs=1e-5), name


@pytest.mark.filterwarnings('ignore:.*use_reentrant')
@pytest.mark.parametrize('modules', [['layer2'], ['layer3.0', 'layer3.1'], ['layer3']])
def test_activation_checkpointing(modules, make_distillation, make_batch):
    plain, batch = make_distillation(), make_batch()
    checkpointed = copy.deepcopy(plain)
    turn_on_activation_checkpointing(
        checkpointed, [f'architecture.backbone.{module}' for module in modules]
    )
    if modules == ['layer3']:
        # The place of "inter" is inside: what is recorded there first has no gradient.
        with pytest.raises(
            ConfigError, match=r'kd_layers\.inter.* no gradient.*activation checkpointing'
        ):
            gradients(checkpointed, batch)
        with torch.no_grad():
            checkpointed(*batch, mode='loss')
        checkpointed.student.backbone.layer3.forward = lambda x: checkpoint(
            type(plain.student.backbone.layer3).forward,
            checkpointed.student.backbone.layer3,
            x,
            use_reentrant=False,
        )
    expected, found = gradients(plain, batch), gradients(checkpointed, batch)
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-4, msg=name)
