"""Training steps on a GPU: equal to the CPU's, without waiting, compiled, as a CUDA graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

import pytest
import torch
from gpu_cases import captured
from marks import devices
from mmengine.optim import AmpOptimWrapper, OptimWrapper

from mmkdlayer.engine import BFloat16OptimWrapper

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')


class Training:
    """Steps of one model on one batch, which are on the device."""

    def __init__(
        self,
        model: torch.nn.Module,
        batch: tuple,
        device: str,
        wrap: Callable[..., Any] = OptimWrapper,
    ) -> None:
        self.model: Any = model.to(device)
        self.inputs, self.samples = batch[0].to(device), [sample.to(device) for sample in batch[1]]
        parameters = [p for p in model.parameters() if p.requires_grad]
        self.wrapper = wrap(optimizer=torch.optim.SGD(parameters, lr=0.05, momentum=0.9))

    def __call__(self) -> dict[str, torch.Tensor]:
        with self.wrapper.optim_context(self.model):
            losses = self.model(self.inputs, self.samples, mode='loss')
        loss, log = self.model.parse_losses(losses)
        self.wrapper.update_params(loss)
        return log

    def log(self) -> dict[str, float]:
        """The numbers of one step."""
        return {name: float(value.detach()) for name, value in self().items()}


@contextmanager
def no_waiting(device: str) -> Iterator[None]:
    """Raise an error where the CPU waits for the GPU."""
    if device == 'cpu':
        yield
        return
    torch.cuda.set_sync_debug_mode('error')
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode('default')


def test_equal_those_on_the_cpu(
    make_distillation: Callable, make_batch: Callable, device: str, tf32: bool
) -> None:
    expected = Training(make_distillation(), make_batch(), 'cpu')
    found = Training(make_distillation(), make_batch(), device)
    for _ in range(3):
        # TF32 is for the networks' convolutions and products alone.
        assert found.log() == pytest.approx(expected.log(), rel=1e-2 if tf32 else 1e-3, abs=1e-3)


@pytest.mark.parametrize('wrap', [OptimWrapper, BFloat16OptimWrapper])
def test_a_steady_step_waits_for_nothing(
    wrap: Any, make_distillation: Callable, make_batch: Callable, device: str
) -> None:
    step = Training(make_distillation(), make_batch(), device, wrap)
    step(), step()
    with no_waiting(device):
        log = step()
    assert all(bool(value.isfinite()) for value in log.values())


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_mixed_precision(
    dtype: str, make_distillation: Callable, make_batch: Callable, device: str
) -> None:
    if device == 'cpu' and dtype == 'float16':
        pytest.skip('float16 needs a GPU')
    plain = Training(make_distillation(), make_batch(), device)
    wrap: Any = BFloat16OptimWrapper
    if dtype == 'float16':

        def wrap(optimizer: Any) -> Any:
            return AmpOptimWrapper('dynamic', dtype, optimizer=optimizer)

    mixed = Training(make_distillation(), make_batch(), device, wrap)
    for _ in range(3):
        found, expected = mixed.log(), plain.log()
    # The first steps of a dynamic loss scale may be skipped.
    assert found == pytest.approx(expected, rel=0.1, abs=0.1)
    for name, parameter in mixed.model.named_parameters():
        assert parameter.isfinite().all(), name


@pytest.mark.parametrize('device', devices(slow_on_cpu=True))
def test_compiled(make_distillation: Callable, make_batch: Callable, device: str) -> None:
    expected = Training(make_distillation(), make_batch(), device)
    found = Training(make_distillation(), make_batch(), device)
    backend = 'inductor' if device == 'cuda' else 'eager'
    found.model.forward = torch.compile(found.model.forward, backend=backend)
    for _ in range(2):
        assert found.log() == pytest.approx(expected.log(), rel=1e-2, abs=1e-3)


def test_cuda_graph(make_distillation: Callable, make_batch: Callable, device: str) -> None:
    expected = Training(make_distillation(), make_batch(), device)
    found = Training(make_distillation(), make_batch(), device)
    for _ in range(6):
        expected()
    if device == 'cpu':  # a dry run
        for _ in range(6):
            found()
    else:
        replay = captured(found, device)  # after three steps
        for _ in range(3):
            replay()
    theirs = dict(expected.model.named_parameters())
    for name, parameter in found.model.named_parameters():
        torch.testing.assert_close(parameter, theirs[name], rtol=1e-3, atol=1e-4, msg=name)
