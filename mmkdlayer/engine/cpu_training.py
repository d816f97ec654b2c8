"""What mmengine trains with on GPUs alone, for processes on CPUs: SyncBN."""

from __future__ import annotations

from typing import Any

import torch
from mmengine import dist
from mmengine.model import MMDistributedDataParallel
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkdlayer.registry import MODEL_WRAPPERS


class _SumOverRanks(torch.autograd.Function):
    """The sum of a tensor over all ranks; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: Any) -> Tensor:
        ctx.group = group
        total = tensor.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _SumOverRanks.apply(grads[0], ctx.group), None


class CpuSyncBatchNorm(_BatchNorm):
    """Like torch's SyncBatchNorm, which refuses to train on CPUs, as does DDP if it finds one."""

    num_batches_tracked: Any
    running_mean: Any
    running_var: Any

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, ...) by the mean and variance over the batches of all ranks."""
        if not self.training:
            return super().forward(x)
        dims = [dim for dim in range(x.dim()) if dim != 1]
        shape = [-1 if dim == 1 else 1 for dim in range(x.dim())]
        dtype = torch.promote_types(x.dtype, torch.float32)
        wide = x.to(dtype)
        group = getattr(self, 'process_group', None)  # SyncBatchNorm's
        count = wide.new_full((1,), x.numel() // x.size(1))
        sums = _SumOverRanks.apply(torch.cat([wide.sum(dims), count]), group)
        total = sums[-1].detach()
        mean = sums[:-1] / total
        centred = wide - mean.view(shape)
        variance = _SumOverRanks.apply(centred.square().sum(dims), group) / total
        if self.track_running_stats:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                rate = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean, rate)
                self.running_var.lerp_(variance * (total / (total - 1)), rate)
        out = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(x.dtype)


@MODEL_WRAPPERS.register_module()
class CpuDistributedDataParallel(MMDistributedDataParallel):
    """mmengine's DDP wrapper on CPUs, with SyncBatchNorm layers that run there."""

    def __init__(self, module: nn.Module, **kwargs: Any) -> None:
        for layer in module.modules():
            if type(layer) is nn.SyncBatchNorm:
                layer.__class__ = CpuSyncBatchNorm  # type: ignore[assignment]  # same parameters
        super().__init__(module=module, **kwargs)
