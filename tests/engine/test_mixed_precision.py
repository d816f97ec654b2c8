"""Mixed precision in bfloat16."""

from __future__ import annotations

from typing import Any, Callable

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mmkdlayer.engine.mixed_precision import BFloat16OptimWrapper


def test_amp_runs_kd_layers_in_full_precision(
    make_distillation: Callable[..., nn.Module],
    make_batch: Callable[..., tuple[Tensor, list]],
) -> None:
    model, plain = make_distillation(), make_distillation()
    dtypes: dict[str, torch.dtype] = {}

    def remember(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, output: Tensor) -> None:
            dtypes[name] = output.dtype

        return hook

    student: Any = model.student
    for name in ('backbone.layer2.0.conv1', 'kd_layers.inter.templates', 'kd_layers.inter'):
        student.get_submodule(name).register_forward_hook(remember(name))
    losses = []
    for net, wrap in ((model, BFloat16OptimWrapper), (plain, OptimWrapper)):
        parameters = [p for p in net.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        wrapper = wrap(optimizer=optimizer)
        for step in range(2):
            inputs, samples = make_batch(seed=step)
            log = net.train_step(dict(inputs=list(inputs), data_samples=samples), wrapper)
            losses.append({name: float(value.detach()) for name, value in log.items()})
    assert dtypes['backbone.layer2.0.conv1'] == torch.bfloat16
    assert dtypes['kd_layers.inter.templates'] == torch.float32
    assert dtypes['kd_layers.inter'] == torch.bfloat16  # the feature map's own
    # bfloat16 has 8 bits: near the full precision, but not equal to it.
    for found, expected in zip(losses[:2], losses[2:]):
        assert found == pytest.approx(expected, rel=0.05)
        assert found != expected
    for name, parameter in student.kd_layers.named_parameters():
        assert parameter.dtype == torch.float32, name
        assert bool(parameter.isfinite().all())


def test_a_state_with_loss_scaling_can_be_loaded() -> None:
    net = nn.Linear(2, 2)
    wrapper = BFloat16OptimWrapper(torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9))
    wrapper.update_params(net(torch.ones(1, 2)).sum())
    state = wrapper.state_dict()
    assert 'loss_scaler' not in state
    other = BFloat16OptimWrapper(torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9))
    other.load_state_dict(dict(state, loss_scaler=dict(scale=512.0)))  # as of AmpOptimWrapper
    assert other.get_lr() == wrapper.get_lr()
    assert torch.equal(other.optimizer.state[net.bias]['momentum_buffer'], torch.ones(2))
