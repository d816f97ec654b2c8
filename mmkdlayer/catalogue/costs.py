"""Parameters and multiply-adds of a student, with and without its KD layers."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmkdlayer.models.connectors import UnitConv2d
from mmkdlayer.registry import MODELS

KD_LAYERS = 'kd_layers.'


@dataclass(frozen=True)
class Cost:
    """What a student costs for one image.

    Attributes:
        parameters: Of the network alone.
        flops: Of the network alone, counted as mmengine's get_model_complexity_info does: one for each
            multiply-add of convolutions and linear layers, two for each output of a batch norm, one
            for each input of global pooling.
        kd_parameters: Of its KD layers: 2*K*C + 2*K + 2 each.
        kd_flops: Of its KD layers: 2*K*C*H*W + 2*K*H*W each.
    """

    parameters: int
    flops: int
    kd_parameters: int
    kd_flops: int


def operations(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> int:
    """What a leaf module counts for one image; mmengine's analysis counts the same on traced graphs.

    It is counted here because mmengine's depends on names of torch's operators, so on its version.

    Args:
        module: Any module; those of other kinds count nothing.
        inputs: Its arguments.
        output: Its output, for a batch of one.
    """
    if isinstance(module, (nn.Conv2d, nn.Linear, UnitConv2d)):
        return output.numel() * module.weight[0].numel()
    if isinstance(module, nn.BatchNorm2d):
        return 2 * output.numel()
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return inputs[0].numel()
    return 0


@torch.no_grad()
def measure(model: dict[str, Any], side: int) -> Cost:
    """Build a student, run it on one image and count.

    Args:
        model: Config of a classifier, or of a KDLayerClassifier.
        side: Side of the image.
    """
    network = MODELS.build(copy.deepcopy(model)).eval()
    flops = {False: 0, True: 0}

    def count_in(kd_layer: bool) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                flops[kd_layer] += operations(module, args, output)

        return hook

    for name, module in network.named_modules():
        module.register_forward_hook(count_in(name.startswith(KD_LAYERS)))
    network(torch.zeros(1, 3, side, side), mode='tensor')
    parameters = {False: 0, True: 0}
    for name, parameter in network.named_parameters():
        parameters[name.startswith(KD_LAYERS)] += parameter.numel()
    return Cost(parameters[False], flops[False], parameters[True], flops[True])
