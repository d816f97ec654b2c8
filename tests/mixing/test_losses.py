"""Every distillation loss that mmrazor and this package register, mixed with KD layers."""

from __future__ import annotations

import copy
import inspect

import mixing_cases as cases
import pytest
import torch
from torch import nn

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')


def registered_losses() -> set[str]:
    import mmrazor.models.losses  # noqa: F401
    from mmrazor.registry import MODELS

    return cases.OURS | {
        name
        for name, entry in MODELS.module_dict.items()
        if inspect.isclass(entry) and entry.__module__.startswith('mmrazor.models.losses')
    }


def test_every_registered_loss_is_mixed() -> None:
    assert len(registered_losses()) >= 22
    elsewhere = {*cases.OF_GENERATORS, 'ViTKDLoss'}  # the latter in test_vitkd_and_simkd.py
    assert registered_losses() == set(cases.MIXED) | elsewhere


def numbered(batch: tuple) -> tuple:
    """CRDLoss wants to know which images of the data set a batch has, and which others it may use."""
    for index, sample in enumerate(batch[1]):
        sample.set_data(dict(sample_idx=torch.tensor(index)))
        others = torch.tensor([index, *(10 + 3 * index + torch.arange(5)).tolist()])
        sample.set_data(dict(contrast_sample_idxs=others % cases.IMAGES))
    return batch


class Seen:
    """What plain hooks see of one step, apart from any recorder."""

    def __init__(self, model: nn.Module) -> None:
        student, teacher = model.student, model.teacher
        self.values: dict[str, torch.Tensor] = {}
        layer = student.kd_layers['penult']
        for key, module, of in (
            ('student.before', layer, lambda args, out: args[0]),
            ('student.after', layer, lambda args, out: out),
            ('student.gap', student.neck.gap, lambda args, out: out),
            ('student.logits', student.head.fc, lambda args, out: out),
            ('student.stages', student.backbone, lambda args, out: out),
            ('teacher.stages', teacher.backbone, lambda args, out: out),
            ('teacher.before', teacher.backbone.layer3, lambda args, out: out),
            ('teacher.after', teacher.backbone.layer3, lambda args, out: out),
            ('teacher.gap', teacher.neck.gap, lambda args, out: out),
            ('teacher.logits', teacher.head.fc, lambda args, out: out),
        ):
            module.register_forward_hook(
                lambda _, args, out, key=key, of=of: self.values.update({key: of(args, out)})
            )


def by_hand(model: nn.Module, seen: Seen, name: str, place: str, batch: tuple) -> torch.Tensor:
    """The loss from what hooks saw, with the loss module and the connectors called directly."""
    entry, distiller = cases.MIXED[name], model.distiller
    inputs = {}
    for key, side in zip(entry['keys'], ('student', 'teacher')):
        value = seen.values[f'{side}.{place}']
        connector = f'mixed_{side}'
        if connector in distiller.connectors:
            value = distiller.connectors[connector](value)
        inputs[key] = value
    if entry['labels']:
        inputs[entry['labels']] = torch.cat([sample.gt_label for sample in batch[1]])
    for key, source in entry['parameters'].items():
        network = model.student if key.endswith('S') else model.teacher
        inputs[key] = network.get_parameter(source)
    if entry['samples']:
        inputs[entry['samples']] = batch[1]
    return distiller.distill_losses['loss_mixed'](**inputs)


@pytest.mark.parametrize(('name', 'place'), cases.PARAMETERS)
def test_loss(make_distillation, distillation_config, make_batch, name: str, place: str) -> None:
    config = distillation_config()
    cases.add_loss(config, name, place)
    alone, mixed, batch = make_distillation(), make_distillation(config), numbered(make_batch(5))
    mixed.load_state_dict(alone.state_dict(), strict=False)
    mixed.teacher.load_state_dict(alone.teacher.state_dict())
    # A copy, because running the loss by hand moves what it remembers (batch norms, CRD's memory).
    twin = copy.deepcopy(mixed)
    seen = Seen(twin)
    expected = alone(*batch, mode='loss')
    torch.manual_seed(7)
    losses = mixed(*batch, mode='loss')
    torch.manual_seed(7)
    twin.teacher(*batch, mode='loss')
    twin.student(*batch, mode='loss')

    # The KD layers' own losses, and the student's, are what they are without the mix.
    assert set(losses) == {*expected, 'distill.loss_mixed'}
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value, msg=key)
    # The loss read what was named.
    oracle = by_hand(twin, seen, name, place, batch)
    torch.testing.assert_close(losses['distill.loss_mixed'], oracle)

    total, _ = mixed.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    gradients = {n: p.grad for n, p in mixed.named_parameters() if p.grad is not None}
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    assert not any(n.startswith('teacher') for n in gradients)
    assert all(n in gradients for n, _ in mixed.student.named_parameters(prefix='architecture'))

    # Alone, it reaches the KD layer that it is read after, and not the one that it is read before.
    mixed.zero_grad()
    mixed.distiller.release_records = lambda: None
    mixed(*batch, mode='loss')['distill.loss_mixed'].sum().backward()
    layers = mixed.student.kd_layers
    assert layers['inter'].templates.weight.grad.abs().sum() > 0
    reached = layers['penult'].templates.weight.grad
    assert (reached is not None and bool(reached.abs().sum() > 0)) == (place != 'before')
    assert mixed.student.backbone.conv1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('name', cases.OF_GENERATORS)
def test_a_generators_loss_teaches_no_student(
    make_distillation, distillation_config, make_batch, name: str
) -> None:
    """It reads the teacher alone: on real images it is a constant."""
    config, entry = distillation_config(), cases.OF_GENERATORS[name]
    distiller = config['distiller']
    distiller.setdefault('teacher_recorders', {})['mixed'] = dict(
        type='ModuleOutputs', source=entry['source']
    )
    distiller.setdefault('distill_losses', {})['loss_mixed'] = dict(type=f'mmrazor.{name}')
    distiller.setdefault('loss_forward_mappings', {})['loss_mixed'] = {
        entry['key']: dict(recorder='mixed', from_student=False)
    }
    losses = make_distillation(config)(*make_batch(), mode='loss')
    assert torch.isfinite(losses['distill.loss_mixed'])
    assert not losses['distill.loss_mixed'].requires_grad
