"""What a training is resumed from."""

from __future__ import annotations

import torch
from mmengine.optim import AmpOptimWrapper
from simulated_cuda.device import SimulatedCuda

from mmkdlayer.engine.resuming import load_optimizer


def test_the_loss_scale_of_mixed_precision_is_resumed() -> None:
    with SimulatedCuda():
        wrappers = []
        for scale in (2.0**9, 2.0**16):
            parameter = torch.nn.Parameter(torch.ones(2, device='cuda'))
            optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
            options = dict(init_scale=scale)
            wrappers.append(AmpOptimWrapper(options, 'float16', optimizer=optimizer))
        saved, resumed = wrappers
        saved.update_params(saved.optimizer.param_groups[0]['params'][0].sum())
        state = saved.state_dict()
        assert load_optimizer(resumed, state) is None
        assert resumed.loss_scaler.get_scale() == 2.0**9
        (momentum,) = resumed.optimizer.state.values()
        assert momentum['momentum_buffer'].is_cuda
        assert 'loss_scaler' in state  # as it was
