"""Training steps on the CPU and on a simulated device, and what a step may do there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from simulated_cuda.device import Event, SimulatedCuda


@dataclass
class Trained:
    """What some steps gave.

    Attributes:
        logs: The numbers of each step's log.
        events: What happened in each step on the device; copies of the batch to it left out.
        state: The model's state dict afterwards, on the CPU.
    """

    model: nn.Module
    logs: list[dict[str, float]] = field(default_factory=list)
    events: list[list[Event]] = field(default_factory=list)
    state: dict[str, Tensor] = field(default_factory=dict)


def sgd(model: nn.Module) -> OptimWrapper:
    parameters = [p for p in model.parameters() if p.requires_grad]
    return OptimWrapper(torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-4))


def train(
    model: Any,
    batches: Sequence[tuple[Tensor, list]],
    cuda: SimulatedCuda | None = None,
    wrap: Callable[[nn.Module], Any] = sgd,
) -> Trained:
    """Train a step on each batch (images, data samples), on the device where one is given."""
    if cuda is not None:
        model = model.to('cuda')
        model.data_preprocessor.forward = _unheard(cuda, model.data_preprocessor.forward)
    done, wrapper = Trained(model), wrap(model)
    for index, (inputs, samples) in enumerate(batches):
        torch.manual_seed(index)
        if cuda is not None:
            cuda.events.clear()
        log = model.train_step(dict(inputs=list(inputs), data_samples=samples), wrapper)
        done.events.append([] if cuda is None else cuda.found('mix', 'sync', 'copy'))
        done.logs.append({name: float(value.detach()) for name, value in log.items()})
    done.state = {name: value.cpu() for name, value in model.state_dict().items()}
    return done


def _unheard(cuda: SimulatedCuda, forward: Callable) -> Callable:
    def call(*args: Any, **kwargs: Any) -> Any:
        with cuda.unheard():
            return forward(*args, **kwargs)

    return call


def assert_steady(trained: Trained, anywhere: bool = True) -> None:
    """From the second step on nothing is mixed, waits or is copied; in the first nothing is mixed.

    Args:
        trained: Three steps.
        anywhere: Whether other packages, and what is done for them in ``compat``, are not excused.
    """
    assert len(trained.events) == 3
    first, *steady = trained.events
    assert [event for event in first if event.kind == 'mix'] == []
    for events in steady:
        if not anywhere:
            events = [e for e in events if e.where and not e.where.startswith('compat/')]
        assert events == []


def assert_same(trained: Trained, expected: Trained, tolerance: float = 1e-5) -> None:
    """Equal logs and weights, but for rounding."""
    assert len(trained.logs) == len(expected.logs)
    for ours, theirs in zip(trained.logs, expected.logs):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert abs(ours[name] - value) <= tolerance * max(1, abs(value)), name
    assert trained.state.keys() == expected.state.keys()
    for name, value in expected.state.items():
        torch.testing.assert_close(
            trained.state[name], value, rtol=tolerance, atol=10 * tolerance, msg=name
        )


class Listener(Hook):
    """Notes what happens on the device in each iteration of a Runner, and the step's losses.

    Attributes:
        events: What happens in an iteration; of what comes between two, mixes alone.
        between: What the package does between the iteration before and this one.
        losses: The numbers of each step's log.
    """

    priority = 'LOWEST'

    def __init__(self, cuda: SimulatedCuda | None) -> None:
        self.cuda = cuda
        self.events: list[list[Event]] = []
        self.between: list[list[Event]] = []
        self.losses: list[dict[str, float]] = []

    def before_train_iter(self, *args: Any, **kwargs: Any) -> None:
        if self.cuda is not None:
            found = self.cuda.found('mix', 'sync', 'copy')
            self.between.append([event for event in found if event.where])
            self.events.append([event for event in found if event.kind == 'mix'])

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any, outputs: dict
    ) -> None:
        if self.cuda is not None:
            self.events[-1] += self.cuda.found('mix', 'sync', 'copy')
        self.losses.append({name: float(torch.as_tensor(v)) for name, v in outputs.items()})
