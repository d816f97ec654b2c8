"""What students cost at inference: alone, with KD layers, folded, and within a budget."""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.analysis import parameter_count
from mmengine.registry import init_default_scope

from mmkdlayer.deploy.example_images import first_channels
from mmkdlayer.deploy.flops import count_flops
from mmkdlayer.deploy.folding import fold_student
from mmkdlayer.registry import MODELS

sys.path.append(str(Path(__file__).resolve().parents[1] / 'tools'))
from configuring.budget import Sizes, choose_sizes

#: Percent that the folded KD layers of a budget may add to the student's FLOPs.
BUDGET = 5


class LayerCost(NamedTuple):
    """What a KD layer costs.

    Attributes:
        templates: K.
        parameters: 2*K*C + 2*K + 2.
        flops: For one image: 2*K*C*H*W + 2*K*H*W.
        folded_parameters: Once it is folded: 2*K*C + K.
        folded_flops: 2*K*C*H*W.
    """

    templates: int
    parameters: int
    flops: int
    folded_parameters: int
    folded_flops: int


@dataclass(frozen=True)
class Cost:
    """What a student costs for one image, as mmengine counts it.

    Attributes:
        parameters: Of the network alone.
        flops: Of the network alone: one for each multiply-add, two for each output of a batch norm.
        layers: Its KD layers, by name.
    """

    parameters: int
    flops: int
    layers: dict[str, LayerCost]

    def added(self, unit: str) -> int:
        """What the KD layers add; the unit is a field of :class:`LayerCost`."""
        return sum(getattr(layer, unit) for layer in self.layers.values())


def measure(model: dict[str, Any], side: int) -> Cost:
    """Build a student and count its parameters, and its FLOPs on one image; fold it, and count again.

    Args:
        model: Config of a KDLayerClassifier.
        side: Side of the image.
    """
    init_default_scope('mmpretrain')
    model = copy.deepcopy(model)
    network = MODELS.build(copy.deepcopy(model)).eval()
    shape = (first_channels(network), side, side)
    templates = {f'kd_layers.{name}': one.num_templates for name, one in network.kd_layers.items()}
    parameters, flops = parameter_count(network), count_flops(network, shape)
    fold_student(model, network)
    folded, folded_flops = parameter_count(network), count_flops(network, shape)
    layers = {
        name.removeprefix('kd_layers.'): LayerCost(
            number, parameters[name], flops[name], folded[name], folded_flops[name]
        )
        for name, number in templates.items()
    }
    return Cost(parameters[''] - parameters['kd_layers'], flops[''] - flops['kd_layers'], layers)


def measure_once(model: dict[str, Any], side: int, known: dict[str, tuple[dict, Cost]]) -> Cost:
    """As :func:`measure`; a network that is known, with these KD layers or more, is not built again."""
    layers = model['kd_layers']
    key = repr((side, {k: v for k, v in model.items() if k != 'kd_layers'}))
    if key not in known or not layers.items() <= known[key][0].items():
        known[key] = layers, measure(model, side)
    cost = known[key][1]
    return replace(cost, layers={name: cost.layers[name] for name in layers})


def within_budget(cost: Cost, classes: int) -> tuple[Sizes, int]:
    """What ``make_config --max-extra-flops 5%`` chooses, and the parameters of these layers, folded.

    Args:
        cost: Of letKD-2.
        classes: How many the student tells apart.
    """
    layers = cost.layers
    sizes = choose_sizes(
        cost.flops * BUDGET / 100,
        {name: layer.folded_flops // layer.templates for name, layer in layers.items()},
        classes,
        layers['inter'].templates // classes,
        layers['penult'].templates,
    )
    templates = dict(inter=classes * sizes.num_subclasses, penult=sizes.num_centroids)
    each = {name: layer.folded_parameters // layer.templates for name, layer in layers.items()}
    return sizes, sum(templates[name] * each[name] for name in sizes.fed_forward)
