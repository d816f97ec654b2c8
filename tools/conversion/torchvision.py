"""ImageNet ResNets as torchvision saves them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mmkdlayer.errors import ConfigError

from .networks import SourceNetwork, stage_blocks

# Blocks of the four stages, and whether they are bottlenecks.
LAYOUTS: dict[tuple[tuple[int, ...], bool], int] = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}
NAMES = {f'resnet{depth}': depth for depth in LAYOUTS.values()}


def torchvision_network(name: str) -> SourceNetwork:
    """Torchvision's network of that name, ``resnet18`` to ``resnet152``.

    mmpretrain's ResNet uses the same names of modules.

    Raises:
        ConfigError: It is none of these.
    """
    if name not in NAMES:
        raise ConfigError(f'--arch: expected one of {", ".join(NAMES)}, but got {name!r}.')
    depth = NAMES[name]
    backbone = {'type': 'mmpretrain.ResNet', 'depth': depth}
    rules = ((r'^(backbone|head)\.', ''),)
    return SourceNetwork(name, backbone, 512 if depth < 50 else 2048, rules)


def detect_torchvision(state: Mapping[str, Tensor]) -> str | None:
    """Name of the ImageNet ResNet that these keys look like, or None."""
    stem = state.get('conv1.weight')
    if stem is None or tuple(stem.shape[2:]) != (7, 7):
        return None
    blocks = tuple(stage_blocks(state, f'layer{stage}.') for stage in range(1, 5))
    depth = LAYOUTS.get((blocks, 'layer1.0.conv3.weight' in state))
    return None if depth is None else f'resnet{depth}'
