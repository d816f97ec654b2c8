"""A teacher's map at the size of the student's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmkdlayer.errors import ConfigError


def pool_to(feature: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Average-pool a teacher's map where it is larger than the student's (docs/method.md, section 2c).

    Of (N, D, H, W) and a size (h, w), or None for none, (N, D, min(H, h), min(W, w)); where it pools, in
    float32 or better.

    Raises:
        ConfigError: ``feature`` is no map, or has one position and the student's map several.
    """
    if not isinstance(feature, Tensor) or feature.dim() != 4:
        found = tuple(feature.shape) if isinstance(feature, Tensor) else type(feature).__name__
        raise ConfigError(
            f'Teacher decision: expected a teacher feature map (N, D, H, W), but got {found}. Name '
            'a module that returns a map (for a tuple, choose one with teacher_index).'
        )
    full = (feature.size(2), feature.size(3))
    if size is None or full == tuple(size):
        return feature
    if full == (1, 1):
        raise ConfigError(
            f"Teacher decision: the teacher's map is (1, 1), smaller than the student's {tuple(size)}: "
            'one decision for a whole image says nothing about its regions. Read a module of the '
            'teacher before its pooling.'
        )
    pooled = (min(full[0], size[0]), min(full[1], size[1]))
    if pooled == full:
        return feature
    feature = feature.to(torch.promote_types(feature.dtype, torch.float32))
    return F.adaptive_avg_pool2d(feature, pooled)


def resize_to(feature: Tensor, size: tuple[int, int] | None) -> Tensor:
    """A teacher's map (N, D, H, W) at the student's size, (N, D, h, w): pooled where it is larger.

    Where it is smaller, each of the student's positions gets the nearest of the teacher's, by the middle
    of the region that it stands for; a decision depends on one position alone, so it is the nearest's
    decision. Decisions are fitted at the teacher's own size then. Errors as of :func:`pool_to`.
    """
    feature = pool_to(feature, size)
    if size is None or tuple(feature.shape[2:]) == tuple(size):
        return feature
    return F.interpolate(feature, size, mode='nearest-exact')
