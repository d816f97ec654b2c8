"""Gradient accumulation, EMA and torch.compile, for two steps with KD layers."""

from __future__ import annotations

from typing import Any, Callable

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import OptimWrapper
from mmengine.utils import digit_version
from torch import nn

LR = 0.1


def wrap(model: nn.Module, **options: Any) -> OptimWrapper:
    parameters = [p for p in model.parameters() if p.requires_grad]
    return OptimWrapper(torch.optim.SGD(parameters, lr=LR), **options)


def train(model: Any, wrapper: OptimWrapper, make_batch: Callable, step: int) -> dict[str, float]:
    inputs, samples = make_batch(seed=step)
    log = model.train_step(dict(inputs=list(inputs), data_samples=samples), wrapper)
    return {name: float(value.detach()) for name, value in log.items()}


def trained(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}


def test_accumulated_steps_are_one_step_with_the_mean_gradient(
    make_distillation: Callable, make_batch: Callable
) -> None:
    model, plain = make_distillation(), make_distillation()
    wrapper = wrap(model, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 2)
    first = {name: value.clone() for name, value in trained(model).items()}
    train(model, wrapper, make_batch, 0)
    for name, value in trained(model).items():
        assert torch.equal(value, first[name]), name
    train(model, wrapper, make_batch, 1)

    for step in range(2):
        losses = plain(*make_batch(seed=step), mode='loss')
        (sum(value for name, value in losses.items() if 'loss' in name) / 2).backward()
    expected = {n: p.detach() - LR * p.grad for n, p in plain.named_parameters() if n in first}
    changed = [n for n, v in expected.items() if not torch.equal(v, first[n])]
    assert any('kd_layers' in name for name in changed)
    for name, value in trained(model).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6, msg=name)


def test_ema_of_kd_layers(make_distillation: Callable, make_batch: Callable) -> None:
    model = make_distillation()
    averaged = ExponentialMovingAverage(model, momentum=0.25)
    wrapper = wrap(model)
    expected: dict[str, torch.Tensor] = {}
    for step in range(2):
        train(model, wrapper, make_batch, step)
        averaged.update_parameters(model)
        for name, value in trained(model).items():
            before = expected.get(name, value)  # the first update copies
            expected[name] = (0.75 * before + 0.25 * value).clone()
    found = dict(averaged.module.named_parameters())
    assert sum('kd_layers' in name for name in expected) == 12
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


@pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.4'),
    reason='torch.compile was tried with torch 2.14; before 2.4 it is another compiler',
)
def test_compiled_steps_give_the_same_losses(
    make_distillation: Callable, make_batch: Callable
) -> None:
    # As mmengine's Runner does with compile=dict(backend=...). This backend traces the forward and the
    # backward pass, but calls no C++ compiler, which would take minutes.
    plain, compiled = make_distillation(), make_distillation()
    torch._dynamo.reset()
    compiled.train_step = torch.compile(compiled.train_step, backend='aot_eager')
    ours, theirs = wrap(compiled), wrap(plain)
    for step in range(2):
        found = train(compiled, ours, make_batch, step)
        expected = train(plain, theirs, make_batch, step)
        assert {'distill.loss_inter', 'distill.loss_penult'} < set(found)
        assert found == pytest.approx(expected, rel=1e-5)
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] > 0
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    for name, value in trained(plain).items():
        torch.testing.assert_close(trained(compiled)[name], value, rtol=1e-4, atol=1e-5, msg=name)
