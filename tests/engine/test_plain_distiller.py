"""KD layers in a loop of one's own: the same losses as the distiller's, on any networks."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import Tensor, nn

from mmkdlayer import PlainDistiller
from mmkdlayer.errors import ConfigError, UnfittedDecisionError
from mmkdlayer.models.decisions import CentroidDecision, SubclassDecision

CENTROIDS = dict(type='mmkdlayer.CentroidDecision', num_centroids=8)
SUBCLASSES = dict(
    type='mmkdlayer.SubclassDecision', num_classes=3, num_subclasses=2, num_components=2
)


def layers(**changes: dict) -> dict:
    found = dict(
        inter=dict(module='stage4.0', in_channels=192, teacher='stage4.0', decision=SUBCLASSES),
        penult=dict(module='stage4', in_channels=192, teacher='stage4', decision=CENTROIDS),
    )
    return {name: {**layer, **changes.get(name, {})} for name, layer in found.items()}


@pytest.fixture
def batches() -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(6, 3, 64, 64), torch.tensor([0, 1, 2, 0, 1, 2])) for _ in range(3)]


def test_torchvision_networks_learn_from_each_other(batches):
    student, teacher = (
        torchvision.models.shufflenet_v2_x0_5(),
        torchvision.models.shufflenet_v2_x0_5(),
    )
    distiller = PlainDistiller(student, teacher, layers())
    assert not any(p.requires_grad for p in teacher.parameters()) and not teacher.training
    distiller.fit(batches, progress=False)
    optimizer = torch.optim.SGD(student.kd_layers.parameters(), lr=0.5)
    images, labels = batches[0]
    history = []
    for _ in range(3):
        student(images)
        losses = distiller.losses(images, labels)
        assert set(losses) == {'loss_inter', 'loss_penult'}
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()
        history.append(sum(losses.values()).item())
    assert history[2] < history[1] < history[0]
    assert not teacher.training


def test_losses_are_those_of_the_formula(batches):
    student, teacher = (
        torchvision.models.shufflenet_v2_x0_5(),
        torchvision.models.shufflenet_v2_x0_5(),
    )
    inter, penult = SubclassDecision(3, 2, 2), CentroidDecision(8)
    declared = layers(inter=dict(decision=inter, loss_weight=0.5), penult=dict(decision=penult))
    distiller = PlainDistiller(student, teacher, declared)
    distiller.fit(batches, progress=False)
    assert distiller.decisions == dict(inter=inter, penult=penult) and inter.is_fitted
    images, labels = batches[1]
    found: dict[str, Tensor] = {}
    for name, layer in student.kd_layers.items():
        layer.templates.register_forward_hook(
            lambda module, args, output, name=name: found.__setitem__(name, output)
        )
    student(images)
    losses = distiller.losses(images, labels)
    features: dict[str, Tensor] = {}
    teacher.stage4[0].register_forward_hook(lambda m, a, out: features.__setitem__('inter', out))
    teacher.stage4.register_forward_hook(lambda m, a, out: features.__setitem__('penult', out))
    teacher.eval()(images)
    for name, decision, weight in (('inter', inter, 0.5), ('penult', penult, 1.0)):
        target = decision.decide(features[name], labels, found[name].shape[2:]).double()
        log_probability = found[name].double().log_softmax(1)
        divergence = torch.special.xlogy(target, target) - target * log_probability
        expected = weight * divergence.sum(1).mean()
        torch.testing.assert_close(losses[f'loss_{name}'].double(), expected, rtol=1e-5, atol=1e-6)


def test_images_without_labels_and_other_images_for_the_teacher(batches):
    student, teacher = (
        torchvision.models.shufflenet_v2_x0_5(),
        torchvision.models.shufflenet_v2_x0_5(),
    )
    distiller = PlainDistiller(student, teacher, dict(penult=layers()['penult']))
    distiller.fit([images for images, _ in batches], progress=False)
    images = batches[0][0]
    student(images)
    large = nn.functional.interpolate(images, scale_factor=2)
    assert torch.isfinite(distiller.losses(images, teacher_images=large)['loss_penult'])


def test_what_is_fitted_stays(batches, tmp_path):
    student, teacher = (
        torchvision.models.shufflenet_v2_x0_5(),
        torchvision.models.shufflenet_v2_x0_5(),
    )
    only = dict(penult=layers()['penult'])
    distiller = PlainDistiller(student, teacher, only)
    distiller.fit(batches, progress=False, seed=1)
    distiller.decisions['penult'].save(tmp_path / 'penult.safetensors')
    file = dict(CENTROIDS, file=str(tmp_path / 'penult.safetensors'))
    again = PlainDistiller(
        torchvision.models.shufflenet_v2_x0_5(), teacher, layers(penult=dict(decision=file))
    )
    before = again.decisions['penult'].centroids
    again.fit(batches, progress=False)
    assert torch.equal(again.decisions['penult'].centroids, before)
    assert again.decisions['inter'].is_fitted


def test_a_layer_without_supervision_has_no_loss(batches):
    student = torchvision.models.shufflenet_v2_x0_5()
    distiller = PlainDistiller(
        student,
        torchvision.models.shufflenet_v2_x0_5(),
        dict(free=dict(module='stage4', in_channels=192, num_templates=8)),
    )
    distiller.fit(batches)
    student(batches[0][0])
    assert distiller.losses(batches[0][0]) == {}


def test_nothing_is_kept_after_use(batches, tmp_path):
    student = torchvision.models.shufflenet_v2_x0_5()
    teacher = torchvision.models.shufflenet_v2_x0_5()
    hooks = [len(m._forward_hooks) for m in teacher.modules()]
    distiller = PlainDistiller(student, teacher, dict(penult=layers()['penult']))
    distiller.fit(batches, progress=False)
    assert [len(m._forward_hooks) for m in teacher.modules()] == hooks
    images = batches[0][0]
    student(images)
    averaged = copy.deepcopy(student)  # as an averaged model is made, with scores still there
    torch.save(student, tmp_path / 'student.pth')
    averaged(images)
    assert torch.isfinite(distiller.losses(images)['loss_penult'])
    student.eval()(images)
    with pytest.raises(ConfigError, match='no scores with gradients'):
        distiller.losses(images)


def test_a_wrong_teacher_leaves_the_student_as_it_was():
    student, teacher = torchvision.models.shufflenet_v2_x0_5(), nn.Sequential(nn.Conv2d(3, 8, 1))
    with pytest.raises(ConfigError, match='has no module'):
        PlainDistiller(student, teacher, layers())
    assert not hasattr(student, 'kd_layers')
    assert all(parameter.requires_grad for parameter in teacher.parameters())


def test_wrong_use_is_a_clear_error(batches):
    student, teacher = (
        torchvision.models.shufflenet_v2_x0_5(),
        torchvision.models.shufflenet_v2_x0_5(),
    )
    with pytest.raises(ConfigError, match=r'the teacher \(ShuffleNetV2\) has no module "layer9"'):
        PlainDistiller(
            torchvision.models.shufflenet_v2_x0_5(), teacher, layers(inter=dict(teacher='layer9'))
        )
    distiller = PlainDistiller(student, teacher, layers())
    images, labels = batches[0]
    with pytest.raises(ConfigError, match=r'kd_layers.inter: there are no scores.*Run the student'):
        distiller.losses(images, labels)
    student(images)
    with pytest.raises(UnfittedDecisionError):
        distiller.losses(images, labels)
    with pytest.raises(ConfigError, match='can be iterated once'):
        distiller.fit(iter(batches))
    with pytest.raises(ConfigError, match="unexpected keyword argument 'sed'"):
        distiller.fit(batches, sed=1)

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 8, 1), nn.AdaptiveAvgPool2d(1))

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x)

    only = dict(inter=dict(layers()['inter'], teacher='body'))
    other = PlainDistiller(torchvision.models.shufflenet_v2_x0_5(), Pooled(), only)
    with pytest.raises(ConfigError, match=r'kd_layers.inter.teacher: .*\(1, 1\), smaller'):
        other.fit(batches, progress=False)
