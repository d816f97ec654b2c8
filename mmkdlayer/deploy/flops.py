"""FLOPs of a network and of its parts, as mmengine counts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from mmengine.analysis import FlopAnalyzer
from torch import nn


def count_flops(network: nn.Module, shape: Sequence[int]) -> Counter[str]:
    """FLOPs for one image by the name of the module; ``''`` is the whole network, in eval mode.

    A multiply-add is one, a value of a batch norm two. The image's shape is (C, H, W).
    """
    first = next(network.parameters())
    analyzer = FlopAnalyzer(network, (torch.zeros(1, *shape, device=first.device),))
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return analyzer.by_module()
