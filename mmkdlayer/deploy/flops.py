"""FLOPs of a network and of its parts, as mmengine counts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from mmengine.analysis import FlopAnalyzer
from torch import nn


def count_flops(network: nn.Module, shape: Sequence[int]) -> Counter[str]:
    """FLOPs for one image: one for each multiply-add, two for each value of a batch norm.

    The network is in eval mode, the image's shape (C, H, W).

    Returns:
        By the name of the module; ``''`` is the whole network.
    """
    first = next(network.parameters())
    analyzer = FlopAnalyzer(network, (torch.zeros(1, *shape, device=first.device),))
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return analyzer.by_module()
