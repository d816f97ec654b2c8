"""A teacher that stops after what is read gives the same losses."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from mmkdlayer.errors import ConfigError

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')


def add_logit_loss(config: dict) -> dict:
    distiller = config['distiller']
    for role in ('student', 'teacher'):
        distiller.setdefault(f'{role}_recorders', {})['fc'] = dict(
            type='ModuleOutputs', source='head.fc'
        )
    distiller.setdefault('distill_losses', {})['loss_kl'] = dict(type='mmrazor.KLDivergence', tau=2)
    distiller.setdefault('loss_forward_mappings', {})['loss_kl'] = dict(
        preds_S=dict(recorder='fc', from_student=True),
        preds_T=dict(recorder='fc', from_student=False),
    )
    return config


def runs_of(teacher: nn.Module) -> list[str]:
    """Names of modules of the teacher, in the order in which they start."""
    names: list[str] = []
    for name, module in teacher.named_modules():
        module.register_forward_pre_hook(lambda m, args, name=name: names.append(name))
    return names


@pytest.mark.parametrize('logits', [False, True])
def test_losses_are_equal_and_what_nobody_reads_does_not_run(
    logits, make_distillation, distillation_config, make_batch
):
    losses = {}
    for brief in (True, False):
        config = distillation_config()
        config = add_logit_loss(config) if logits else config
        config['distiller']['stop_teacher_early'] = brief
        model = make_distillation(config)
        found = [model(*make_batch(seed=seed), mode='loss') for seed in (1, 2, 3)]
        names = runs_of(model.teacher)
        found.append(model(*make_batch(seed=4), mode='loss'))
        assert ('head.loss_module' in names) == (not brief)
        assert ('head.fc' in names) == (logits or not brief)
        assert 'backbone.layer3.0' in names
        # The inner modules of the last stage have run, and only what is after it was left out.
        assert 'backbone.layer3.1.conv2' in names
        losses[brief] = found
    for first, second in zip(losses[True], losses[False]):
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert torch.equal(value, second[name]), name


def test_other_modes_and_batches_of_another_shape_are_complete(make_distillation, make_batch):
    model = make_distillation()
    inputs, samples = make_batch(4)
    for _ in range(2):
        model(inputs, samples, mode='loss')
    assert model.teacher(inputs).__class__ is not dict
    assert model.teacher(inputs, samples, mode='loss') == {}
    assert 'loss' in model.teacher(inputs[:3], samples[:3], mode='loss')
    assert model.teacher(inputs[:3], samples[:3], mode='loss') == {}


COPIES: list[Any] = [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]


@pytest.mark.parametrize('twin_of', COPIES)
def test_copies_run_their_own_teacher(twin_of, make_distillation, make_batch):
    model, batch = make_distillation(), make_batch()
    expected = [model(*batch, mode='loss')['distill.loss_penult'].detach() for _ in range(2)]
    twin = twin_of(model)
    assert twin.teacher.forward.teacher is twin.teacher
    with torch.no_grad():
        for parameter in model.teacher.parameters():
            parameter.zero_()
    found = [twin(*batch, mode='loss')['distill.loss_penult'].detach() for _ in range(2)]
    assert all(torch.allclose(a, b) for a, b in zip(found, expected))


@pytest.mark.parametrize('asked', [False, True])
def test_images_in_channels_last_order(asked, make_distillation, distillation_config, make_batch):
    config = distillation_config()
    expected = make_distillation(config)(*make_batch(), mode='loss')
    config['distiller']['teacher_channels_last'] = asked
    model, batch = make_distillation(config), make_batch()
    seen = []
    model.teacher.backbone.conv1.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    losses = model(*batch, mode='loss')
    assert seen[0].is_contiguous(memory_format=torch.channels_last) == asked
    assert torch.equal(seen[0], batch[0])
    for name, value in losses.items():
        torch.testing.assert_close(value, expected[name])


def test_inputs_by_keyword(make_distillation, distillation_config, make_batch):
    config = distillation_config()
    config['distiller']['teacher_channels_last'] = True
    model, (inputs, samples) = make_distillation(config), make_batch()
    seen = []
    model.teacher.backbone.conv1.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    assert 'loss' in model.teacher(inputs=inputs, data_samples=samples, mode='loss')
    assert model.teacher(inputs=inputs, data_samples=samples, mode='loss') == {}
    assert all(value.is_contiguous(memory_format=torch.channels_last) for value in seen)


def test_what_the_teacher_itself_returns_needs_the_whole_pass(
    make_distillation, distillation_config
):
    config = distillation_config()
    config['distiller'].setdefault('teacher_recorders', {})['losses'] = dict(
        type='ModuleOutputs', source=''
    )
    assert not make_distillation(config).teacher.forward.stops


def test_an_error_inside_the_teacher_is_its_own(make_distillation, make_batch):
    model, batch = make_distillation(), make_batch()
    model(*batch, mode='loss')

    def fail(*args: Any) -> None:
        raise ValueError('broken')

    handle = model.teacher.backbone.layer2.register_forward_hook(fail)
    with pytest.raises(ValueError, match='broken'):
        model(*batch, mode='loss')
    handle.remove()
    assert not model.teacher.forward.armed
    assert model.teacher(*batch, mode='loss') == {}


def test_modules_outside_of_a_forward_pass_may_run_alone(make_distillation, make_batch):
    model, batch = make_distillation(), make_batch()
    for _ in range(2):
        model(*batch, mode='loss')
        for _ in range(3):
            assert len(model.teacher.extract_feat(batch[0])) == 1


def test_what_is_recorded_in_other_ways_needs_the_whole_pass(
    make_distillation, distillation_config
):
    config = distillation_config()
    source = 'mmpretrain.models.ImageClassifier.extract_feat'
    config['distiller'].setdefault('teacher_recorders', {})['method'] = dict(
        type='MethodOutputs', source=source
    )
    assert not make_distillation(config).teacher.forward.stops


def test_the_output_of_the_teacher_as_a_whole_needs_the_whole_pass(
    make_distillation, distillation_config, make_batch
):
    config = distillation_config()
    config['distiller'].setdefault('teacher_recorders', {})['whole'] = dict(
        type='ModuleOutputs', source=''
    )
    model, outputs = make_distillation(config), []
    model.teacher.register_forward_hook(lambda module, args, output: outputs.append(output))
    for _ in range(2):
        model(*make_batch(), mode='loss')
    assert [set(output) for output in outputs] == [{'loss'}, {'loss'}]


def test_a_teacher_in_bfloat16(make_distillation, distillation_config, make_batch):
    config = distillation_config()
    expected = make_distillation(config)(*make_batch(), mode='loss')
    config['distiller']['teacher_dtype'] = 'bfloat16'
    model = make_distillation(config)
    seen = []
    model.teacher.backbone.conv1.register_forward_hook(lambda m, args, out: seen.append(out.dtype))
    found = model(*make_batch(), mode='loss')
    assert seen == [torch.bfloat16]
    assert torch.equal(found['student.loss'], expected['student.loss'])
    for name in ('distill.loss_inter', 'distill.loss_penult'):
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], expected[name], atol=0.1, rtol=0.1)
    assert not torch.equal(found['distill.loss_penult'], expected['distill.loss_penult'])
    config['distiller']['teacher_dtype'] = 'int8'
    with pytest.raises(ConfigError, match="bfloat16, float16, or None .* but got 'int8'"):
        make_distillation(config)
