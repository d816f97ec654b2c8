"""The tests of ``tests/cuda`` on the simulated device: where there is a GPU, they are no surprise."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any, Callable

import pytest
import torch
from mmengine.optim import OptimWrapper

from simulated_cuda.device import SimulatedCuda


def load(name: str) -> ModuleType:
    file = Path(__file__).resolve().parents[1] / 'cuda' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


numbers = load('test_numbers')


@pytest.mark.parametrize('kind', numbers.KINDS)
@pytest.mark.parametrize('implementation', ['memory_efficient', 'reference'])
def test_layer_loss_and_decision(kind: str, implementation: str, cuda: SimulatedCuda) -> None:
    numbers.test_layer_and_loss(kind, implementation, 'cuda', False)
    numbers.test_decisions(kind, 'cuda', False)


def test_fitting(cuda: SimulatedCuda) -> None:
    numbers.test_fitting('cuda', False)


def test_steps(
    cuda: SimulatedCuda,
    make_distillation: Callable,
    make_batch: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: Any = load('test_steps')
    monkeypatch.setattr(torch.cuda, 'set_sync_debug_mode', lambda mode: None)
    steps.test_equal_those_on_the_cpu(make_distillation, make_batch, 'cuda', False)
    steps.test_a_steady_step_waits_for_nothing(OptimWrapper, make_distillation, make_batch, 'cuda')
    for dtype in ('float16', 'bfloat16'):
        steps.test_mixed_precision(dtype, make_distillation, make_batch, 'cuda')
