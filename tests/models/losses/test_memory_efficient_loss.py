"""Layer and loss: efficient against reference, in all that may surround them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from normal_numbers import NoSubnormals, has_subnormals
from simulated_cuda.device import skip_with_old_torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from mmkdlayer.errors import ConfigError
from mmkdlayer.models import (
    CentroidDecision,
    KDLayerConnector,
    SubclassDecision,
    TeacherDecision,
    TeacherDecisionLoss,
)

CHANNELS, CLASSES, SUBCLASSES = 4, 3, 8
KINDS = ['centroid', 'subclass', 'sparse', 'soft']


def make_decision(kind: str, device: str = 'cpu') -> TeacherDecision:
    size = CLASSES * SUBCLASSES
    if kind == 'centroid':
        return CentroidDecision.from_tables(torch.randn(size, CHANNELS), 0.5)
    table = torch.rand(size, size, dtype=torch.float64)  # rows sum to 1 in float64 too
    if kind == 'sparse':
        table = table * (table >= table.topk(3).values[:, 2:])
    table /= table.sum(1, keepdim=True)
    return SubclassDecision.from_tables(
        torch.randn(2, CHANNELS), torch.randn(2), torch.randn(size, 2), table, CLASSES
    )


def make_label(kind: str, images: int) -> Tensor:
    label = torch.arange(images) % CLASSES
    return torch.rand(images, CLASSES, dtype=torch.float64).softmax(1) if kind == 'soft' else label


class Step(nn.Module):
    """A convolution, a KD layer whose scores are recorded, and the loss of both."""

    def __init__(self, decision: TeacherDecision, implementation: str, **loss: Any) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 1)
        self.layer = KDLayerConnector(
            CHANNELS, decision.num_templates, alpha=0.7, implementation=implementation
        )
        self.loss = TeacherDecisionLoss(decision, implementation=implementation, **loss)
        self.recorded: list[Tensor] = []
        self.layer.templates.register_forward_hook(lambda m, args, out: self.recorded.append(out))

    def forward(self, x: Tensor, feature: Tensor, label: Tensor) -> Tensor:
        output = self.layer(self.stem(x))
        return self.loss(self.recorded.pop(), feature, label) + output.square().mean()


def make_steps(kind: str, **loss: Any) -> tuple[Step, Step]:
    decision = make_decision(kind)
    efficient = Step(decision, 'memory_efficient', **loss)
    reference = Step(decision, 'reference', **loss)
    reference.load_state_dict(copy.deepcopy(efficient.state_dict()))
    return efficient, reference


def run(step: Step, *inputs: Tensor) -> dict[str, Tensor]:
    step.zero_grad()
    value = step(*inputs)
    value.backward()
    return {'': value.detach(), **{name: p.grad for name, p in step.named_parameters()}}


def agree(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        scale = max(float(expected[name].abs().max()), 1e-2)
        torch.testing.assert_close(value, expected[name], atol=tolerance * scale, rtol=0)


@pytest.mark.parametrize('size', [(5, 3, 4), (16, 2, 2), (1, 7, 1)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('kind', KINDS)
def test_lean_equals_reference(kind: str, dtype: torch.dtype, size: tuple) -> None:
    images, *area = size
    efficient, reference = (step.to(dtype) for step in make_steps(kind, loss_weight=0.3))
    inputs = (
        torch.randn(images, 3, *area, dtype=dtype),
        torch.randn(images, CHANNELS, *area, dtype=dtype),
        make_label(kind, images),
    )
    tolerance = 2e-5 if dtype == torch.float32 else 1e-10
    agree(run(efficient, *inputs), run(reference, *inputs), tolerance)


def inputs_of(kind: str, images: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    feature = torch.randn(images, CHANNELS, 3, 3)
    return torch.randn(images, 3, 3, 3), feature, make_label(kind, images)


@pytest.mark.parametrize('kind', KINDS)
def test_under_autocast_in_bfloat16(kind: str) -> None:
    efficient, reference = make_steps(kind)
    inputs = inputs_of(kind)
    with torch.autocast('cpu', torch.bfloat16):
        found = run(efficient, *inputs)  # its backward pass is called under autocast too
        value = reference(*inputs)
    value.backward()
    expected = {'': value.detach(), **{n: p.grad for n, p in reference.named_parameters()}}
    agree(found, expected, 1e-2)
    # The stem alone rounds to bfloat16.
    exact = [name for name in expected if not name.startswith('stem')]
    assert any(name.startswith('layer') for name in exact)
    agree({n: found[n] for n in exact}, {n: expected[n] for n in exact}, 1e-4)


def test_under_activation_checkpointing() -> None:
    efficient, _ = make_steps('subclass')
    x, feature, label = inputs_of('subclass')
    expected = run(efficient, x, feature, label)
    efficient.zero_grad()
    efficient.layer.bn.reset_running_stats()
    output = checkpoint(lambda x: efficient.layer(efficient.stem(x)), x, use_reentrant=False)
    value = efficient.loss(efficient.recorded.pop(), feature, label) + output.square().mean()
    value.backward()
    found = {'': value.detach(), **{name: p.grad for name, p in efficient.named_parameters()}}
    agree(found, expected, 1e-6)


@pytest.mark.parametrize('kind', KINDS)
def test_compiled(kind: str) -> None:
    efficient, _ = make_steps(kind)
    inputs = inputs_of(kind)
    expected = run(efficient, *inputs)
    torch._dynamo.reset()
    compiled = torch.compile(efficient, backend='eager')
    efficient.zero_grad()
    value = compiled(*inputs)
    value.backward()
    found = {'': value.detach(), **{name: p.grad for name, p in efficient.named_parameters()}}
    agree(found, expected, 1e-6)


@pytest.mark.parametrize('kind', KINDS)
def test_features_in_float64_with_scores_in_float32(kind: str) -> None:
    efficient, reference = make_steps(kind)
    x, feature, label = inputs_of(kind)
    inputs = x, feature.double(), label
    agree(run(efficient, *inputs), run(reference, *inputs), 1e-4)


def test_value_for_distances_of_thousands() -> None:
    centroids = 10 * torch.rand(64, 512)
    loss = TeacherDecisionLoss(CentroidDecision.from_tables(centroids))
    feature = centroids[torch.randperm(64)].t().reshape(1, 512, 8, 8)
    scores = torch.randn(1, 64, 8, 8)
    expected = loss(scores.double(), feature.double())
    torch.testing.assert_close(loss(scores, feature).double(), expected, rtol=3e-6, atol=0)


def test_scores_may_be_used_by_others_too_and_the_graph_twice() -> None:
    efficient, reference = make_steps('centroid')
    x, feature, label = inputs_of('centroid')
    gradients = []
    for step in (efficient, reference):
        output = step.layer(step.stem(x))
        scores = step.recorded.pop()
        value = output.sum() + step.loss(scores, feature, label) + (0.1 * scores).exp().mean()
        parameters = list(step.stem.parameters()) + list(step.layer.parameters())
        first = torch.autograd.grad(value, parameters, retain_graph=True)
        second = torch.autograd.grad(value, parameters)
        assert all(torch.equal(a, b) for a, b in zip(first, second))
        gradients.append(dict(enumerate(first)))
    agree(*gradients, 1e-4)


def test_scores_or_values_alone_leave_the_rest_without_gradients() -> None:
    efficient, reference = make_steps('centroid')
    x, feature, label = inputs_of('centroid')
    for use in ('scores', 'values'):
        found = []
        for step in (efficient, reference):
            step.zero_grad()
            output = step.layer(step.stem(x))
            scores = step.recorded.pop()
            (step.loss(scores, feature, label) if use == 'scores' else output.sum()).backward()
            found.append({n: p.grad for n, p in step.named_parameters() if p.grad is not None})
        agree(*found, 1e-4)


def test_a_hook_that_changes_the_scores_changes_the_values() -> None:
    efficient, reference = make_steps('centroid')
    x = torch.randn(2, CHANNELS, 3, 3)
    outputs = []
    for step in (efficient, reference):
        step.layer.templates.register_forward_hook(lambda m, args, out: out * out)
        outputs.append(step.layer(x))
    torch.testing.assert_close(*outputs)
    buffers = zip(efficient.layer.buffers(), reference.layer.buffers())
    assert all(torch.allclose(a, b) for a, b in buffers)


class _NoWaiting(TorchDispatchMode):
    """Raises where a step would wait for its device."""

    WAITING = ('_local_scalar_dense', 'nonzero', 'is_nonzero', 'equal', 'masked_select', 'unique')

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        assert name not in self.WAITING and '_unique' not in name, f'{name} waits for the device'
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('implementation', ['memory_efficient', 'reference'])
@pytest.mark.parametrize('kind', KINDS)
def test_nothing_waits_for_the_device(kind: str, implementation: str) -> None:
    """On the meta device, on which no value can be read."""
    skip_with_old_torch()
    step = Step(make_decision(kind), implementation).to('meta')
    inputs = [value.to('meta') for value in inputs_of(kind)]
    step.loss.decision.prepared_for(inputs[0])  # once, before the first step
    with _NoWaiting():
        step(*inputs).backward()
    with _NoWaiting(), pytest.raises(AssertionError, match='_local_scalar_dense waits'):
        torch.ones(1).item()


def test_nothing_of_the_scores_size_is_kept_but_the_scores() -> None:
    efficient, _ = make_steps('centroid')
    size = 4 * 9 * CLASSES * SUBCLASSES
    kept: set[int] = set()

    def pack(tensor: Tensor) -> Tensor:
        if tensor.numel() >= size:
            kept.add(tensor.untyped_storage().data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        efficient(*inputs_of('centroid'))
    assert len(kept) == 1


def test_unknown_implementation() -> None:
    with pytest.raises(
        ConfigError, match="'memory_efficient', 'triton' or 'reference', but got 'fast'"
    ):
        TeacherDecisionLoss(make_decision('centroid'), implementation='fast')


@pytest.mark.parametrize('kind', KINDS)
def test_scores_stay_as_they_are(kind: str) -> None:
    decision = make_decision(kind)
    for scale in (3, 300):
        scores = scale * torch.randn(4, decision.num_templates, 3, 3)
        before = scores.clone()
        scores.requires_grad_()
        TeacherDecisionLoss(decision)(scores, torch.randn(4, CHANNELS, 3, 3), make_label(kind, 4))
        assert torch.equal(scores.detach(), before)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('kind', KINDS)
def test_sharp_scores_are_compared_without_subnormal_numbers(kind, dtype):
    decision = make_decision(kind)
    scores = (40 * torch.randn(4, decision.num_templates, 3, 3)).to(dtype).requires_grad_()
    feature, label = torch.randn(4, CHANNELS, 3, 3), make_label(kind, 4)
    assert has_subnormals(scores.double().softmax(1))
    loss = TeacherDecisionLoss(decision)
    with NoSubnormals():
        found = loss(scores, feature, label)
        found.backward()
    exact = scores.detach().double().requires_grad_()
    expected = TeacherDecisionLoss(decision, implementation='reference')(exact, feature, label)
    expected.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(
        scores.grad.double(), exact.grad, atol=1e-6, rtol=1e-2 if dtype == torch.bfloat16 else 1e-4
    )
