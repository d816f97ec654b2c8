"""Decisions, losses and the KD layer on a simulated device: no mix, no wait, no copy, same numbers."""

from __future__ import annotations

from typing import Any, Callable

import pytest
import torch
from torch import Tensor

from mmkdlayer.engine.hooks.kd_metrics_hook import assignment_metrics, layer_metrics
from mmkdlayer.models import (
    CentroidDecision,
    KDLayerConnector,
    SubclassDecision,
    TeacherDecision,
)
from mmkdlayer.models.losses import StoredDecisionLoss, TeacherDecisionLoss
from mmkdlayer.models.losses.teacher_decision_loss import DecisionLoss
from simulated_cuda.device import SimulatedCuda

IMAGES, CHANNELS, SIDE, CLASSES = 4, 6, 5, 3
generator = torch.Generator().manual_seed(3)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator)


def subclasses(table: str, mixed_classes: int | None = None) -> SubclassDecision:
    """Three classes of four sub-classes, whose table is full or has one entry a row."""
    generator.manual_seed(4)
    rows = normal(12, 12).softmax(1)
    if table != 'dense':
        rows = torch.zeros(12, 12).scatter_(1, normal(12, 12).topk(2).indices[:, :1], 1.0)
    if table == 'torch-sparse':
        rows = rows.to_sparse_coo()
    decision = SubclassDecision.from_tables(
        normal(2, CHANNELS), normal(2), normal(12, 2), rows, CLASSES
    )
    decision.mixed_classes = mixed_classes
    return decision


TEACHER, SCORES = normal(IMAGES, CHANNELS, 2 * SIDE, 2 * SIDE), normal(IMAGES, 12, SIDE, SIDE)
MIXTURE = torch.tensor([[0.7, 0.3, 0], [0, 1, 0], [0.5, 0, 0.5], [0, 0.1, 0.9]])
HARD = torch.tensor([0, 2, 1, 2])
CASES: dict[str, tuple[Callable[[], TeacherDecision], Tensor | None]] = {
    'centroids': (lambda: CentroidDecision.from_tables(TEACHER[0, :, :7, 0].t()), None),
    'table': (lambda: subclasses('dense'), HARD),
    'sparse table': (lambda: subclasses('sparse'), HARD),
    'torch-sparse table': (lambda: subclasses('torch-sparse'), HARD),
    'small labels': (lambda: subclasses('dense'), HARD.int()),
    'soft labels': (lambda: subclasses('dense'), MIXTURE),
    'soft labels, sparse table': (lambda: subclasses('sparse'), MIXTURE),
    'two classes': (lambda: subclasses('dense', 2), MIXTURE),
    'two classes, sparse table': (lambda: subclasses('sparse', 2), MIXTURE),
}


def random_rows() -> dict[str, Tensor]:
    return dict(rows=torch.randint(12, (IMAGES, SIDE, SIDE), generator=generator))


def random_tops() -> dict[str, Tensor]:
    known, rows = normal(IMAGES, SIDE, SIDE, 7).softmax(-1).topk(3)
    return dict(rows=rows, probabilities=known.half())


STORED_CASES: dict[str, tuple[Callable[[], TeacherDecision], dict[str, Tensor]]] = {
    'centroids': (CASES['centroids'][0], random_tops()),
    'table': (CASES['table'][0], random_rows()),
    'sparse table': (CASES['sparse table'][0], random_rows()),
}


def moved(given: Any, device: str) -> Any:
    """A tensor, or each one of a dict, on a device; None stays."""
    if isinstance(given, dict):
        return {name: moved(value, device) for name, value in given.items()}
    return given if given is None else given.to(device)


def check_loss(loss: DecisionLoss, reads: dict[str, Any], cuda: SimulatedCuda) -> None:
    """Value and gradient are those of the CPU, and a second call is free."""
    results = []
    for device in ('cpu', 'cuda'):
        scores = SCORES[:, : loss.decision.num_templates].to(device).requires_grad_()
        given = moved(reads, device)
        for _ in range(2):
            scores.grad = None
            cuda.events.clear()
            value = loss(scores, **given)
            value.backward()
            events = cuda.found('mix', 'sync', 'copy')
        assert events == []
        results.append((value.detach(), scores.grad))
    for found, wanted in zip(results[1], results[0]):
        assert found.is_cuda
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('implementation', ['memory_efficient', 'reference'])
@pytest.mark.parametrize('name', CASES)
def test_loss(name: str, implementation: str, cuda: SimulatedCuda) -> None:
    decision, label = CASES[name][0](), CASES[name][1]
    loss = TeacherDecisionLoss(decision, implementation=implementation)
    check_loss(loss, dict(teacher_feature=TEACHER, gt_label=label), cuda)


@pytest.mark.parametrize('implementation', ['memory_efficient', 'reference'])
@pytest.mark.parametrize('name', STORED_CASES)
def test_loss_of_stored_decisions(name: str, implementation: str, cuda: SimulatedCuda) -> None:
    decision, stored = STORED_CASES[name][0](), STORED_CASES[name][1]
    loss = StoredDecisionLoss(decision, implementation=implementation)
    check_loss(loss, dict(stored=stored), cuda)


def metrics_on(
    loss: TeacherDecisionLoss, device: str, label: Tensor | None
) -> tuple[dict[str, Tensor], Tensor]:
    scores = SCORES[:, : loss.decision.num_templates]
    inputs = [None if given is None else given.to(device) for given in (scores, TEACHER, label)]
    return assignment_metrics(loss, *inputs), loss.decision.decide(*inputs[1:])


@pytest.mark.parametrize('name', CASES)
def test_metrics_and_what_is_decided(name: str, cuda: SimulatedCuda) -> None:
    decision, label = CASES[name][0](), CASES[name][1]
    loss = TeacherDecisionLoss(decision)
    expected = metrics_on(loss, 'cpu', label)
    for _ in range(2):
        cuda.events.clear()
        found = metrics_on(loss, 'cuda', label)
        events = [event for event in cuda.found('mix', 'sync', 'copy') if event.where]
    assert events == []
    for metric, value in expected[0].items():
        torch.testing.assert_close(found[0][metric].cpu(), value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[1].cpu(), expected[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('implementation', ['memory_efficient', 'reference'])
def test_layer(implementation: str, training: bool, cuda: SimulatedCuda) -> None:
    torch.manual_seed(0)
    made = [KDLayerConnector(CHANNELS, 70, implementation=implementation) for _ in range(2)]
    made[1].load_state_dict(made[0].state_dict())
    found = []
    for layer, device in zip(made, ('cpu', 'cuda')):
        layer.to(device).train(training)
        x = normal_like_before().to(device).requires_grad_()
        for _ in range(2):
            layer.zero_grad()
            x.grad = None
            cuda.events.clear()
            out = layer(x)
            (out * out).sum().backward()
            events = cuda.found('mix', 'sync', 'copy')
        assert events == []
        scores = layer.templates(x).detach()
        metrics = layer_metrics(layer, scores)
        gradients = {name: parameter.grad for name, parameter in layer.named_parameters()}
        found.append(
            {'out': out.detach(), 'x': x.grad, **gradients, **metrics, **layer.state_dict()}
        )
    assert found[1]['out'].is_cuda
    for name, value in found[0].items():
        torch.testing.assert_close(
            found[1][name].detach().cpu(), value.detach(), rtol=1e-4, atol=1e-5, msg=name
        )


def test_an_assertion_of_the_device_says_what_was_expected(cuda: SimulatedCuda) -> None:
    decision, label = subclasses('dense'), torch.tensor([0, 3, 1, 2]).to('cuda')
    with pytest.raises(RuntimeError, match=r'^SubclassDecision: labels must be 0 to 2 .*\)\.$'):
        decision.decide(TEACHER.to('cuda'), label)
    assert cuda.found('sync') == []


def normal_like_before() -> Tensor:
    return torch.randn(IMAGES, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(8))


def test_tables_stay_where_they_were_moved_to(cuda: SimulatedCuda) -> None:
    """A decision that has been asked on the device has nothing to copy when it is asked again."""
    decision, label = subclasses('dense'), HARD.to('cuda')
    feature = TEACHER.to('cuda')
    decision.decide(feature, label)
    cuda.events.clear()
    decision.decide(feature, label)
    assert cuda.found('copy') == []
    decision.set_tables(**dict(decision._tables))
    decision.decide(feature, label)
    assert cuda.found('copy')
