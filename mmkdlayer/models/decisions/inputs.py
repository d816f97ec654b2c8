"""What a decision is given: checks that cost no wait for the device, and pooling."""

from __future__ import annotations

from typing import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mmkdlayer.errors import ConfigError, DataError


def require(condition: Tensor, message: Callable[[], str]) -> None:
    """Raise a DataError where a condition on data does not hold.

    On CUDA the check is asynchronous (the device stops with an assertion later), because a training
    step must not wait for the device; other accelerators have no such check.

    Args:
        condition: Bool tensor with one element.
        message: Makes the error's text, when it is needed.
    """
    if condition.device.type == 'cpu':
        if not bool(condition):
            raise DataError(message())
    elif condition.device.type == 'cuda':
        torch._assert_async(condition)


def pool_to(feature: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Average-pool a teacher's map to the student's size (docs/method.md, section 2c).

    Args:
        feature: Shape (N, D, H, W).
        size: (h, w), or None to leave the map as it is.

    Returns:
        Shape (N, D, h, w); where it pools, in float32 or better.

    Raises:
        ConfigError: The teacher's map is the smaller one, or ``feature`` is no map.
    """
    if not isinstance(feature, Tensor) or feature.dim() != 4:
        found = tuple(feature.shape) if isinstance(feature, Tensor) else type(feature).__name__
        raise ConfigError(
            f'Teacher decision: expected a teacher feature map (N, D, H, W), but got {found}. Name '
            'a module that returns a map (for a tuple, choose one with teacher_index).'
        )
    if size is None or tuple(feature.shape[2:]) == tuple(size):
        return feature
    if feature.size(2) < size[0] or feature.size(3) < size[1]:
        raise ConfigError(
            f"Teacher decision: the teacher's map is {tuple(feature.shape[2:])}, smaller than the "
            f"student's {tuple(size)}; it must be at least as large. Record an earlier module of the "
            'teacher, or place the KD layer after a later module of the student.'
        )
    feature = feature.to(torch.promote_types(feature.dtype, torch.float32))
    return F.adaptive_avg_pool2d(feature, (size[0], size[1]))
