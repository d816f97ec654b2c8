"""A check that no operation gives numbers that processors are slow with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


def has_subnormals(numbers: Tensor) -> bool:
    """Whether some numbers are smaller than the smallest normal one in float32, and not 0."""
    size = numbers.detach().abs()
    return bool(((size > 0) & (size < torch.finfo(torch.float32).tiny)).any())


class NoSubnormals(TorchDispatchMode):
    """Fails where an operation gives numbers that processors are a hundred times as slow with."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.layout == torch.strided:
            if 'empty' in str(func):
                result.zero_()  # what is in memory by chance
            assert not (result.is_floating_point() and has_subnormals(result)), func
        return result
