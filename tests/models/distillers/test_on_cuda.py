"""Training steps on a GPU equal those on the CPU."""

from __future__ import annotations

import pytest
import torch
from marks import needs_cuda

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')


def losses_of_two_steps(model: torch.nn.Module, device: str, batch: tuple) -> list[dict]:
    model = model.to(device)
    inputs, samples = batch
    inputs, samples = inputs.to(device), [sample.to(device) for sample in samples]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    found = []
    for _ in range(2):
        optimizer.zero_grad()
        losses = model(inputs, samples, mode='loss')
        sum(value for name, value in losses.items() if 'loss' in name).backward()
        optimizer.step()
        found.append({name: float(value) for name, value in losses.items()})
    return found


@needs_cuda
def test_two_steps_equal_those_on_the_cpu(make_distillation, make_batch) -> None:
    expected = losses_of_two_steps(make_distillation(), 'cpu', make_batch())
    found = losses_of_two_steps(make_distillation(), 'cuda', make_batch())
    for ours, theirs in zip(found, expected):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-3)  # TF32 in convolutions
