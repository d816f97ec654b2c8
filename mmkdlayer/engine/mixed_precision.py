"""Automatic mixed precision in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import nn

from mmkdlayer.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Automatic mixed precision in bfloat16, whose range needs no loss scaling, on any device.

    mmengine's AmpOptimWrapper refuses to be built without an accelerator, and scales losses whatever
    the type. A training that was saved with one of them can be resumed with the other.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass under autocast; gradients are accumulated as in OptimWrapper."""
        with super().optim_context(model), torch.autocast(get_device(), dtype=torch.bfloat16):
            yield
