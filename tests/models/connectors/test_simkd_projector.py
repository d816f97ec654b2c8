"""The projector of SimKD, in a student with the teacher's classifier."""

from __future__ import annotations

import torch
from torch import nn

from mmkdlayer.models import SimKDProjector


def test_it_is_three_convolutions_with_norm_and_relu() -> None:
    torch.manual_seed(0)
    projector = SimKDProjector(4, 6, factor=3)
    convs = [m for m in projector.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in projector.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [tuple(conv.weight.shape) for conv in convs] == [
        (2, 4, 1, 1),
        (2, 2, 3, 3),
        (6, 2, 1, 1),
    ]
    x = torch.randn(3, 4, 5, 5)
    expected = x
    for conv, norm in zip(convs, norms):
        expected = conv(expected)
        mean, var = expected.mean((0, 2, 3), True), expected.var((0, 2, 3), False, keepdim=True)
        expected = ((expected - mean) / (var + norm.eps).sqrt()).clamp_min(0)
    (found,) = projector((torch.zeros(3, 2, 9, 9), x))
    torch.testing.assert_close(found, expected)
