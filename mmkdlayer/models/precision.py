"""Leaving automatic mixed precision where half precision is not enough."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(like: Tensor) -> AbstractContextManager:
    """A context without autocast on the device of a tensor (some devices have none to leave)."""
    try:
        return torch.autocast(like.device.type, enabled=False)
    except RuntimeError:
        return nullcontext()
