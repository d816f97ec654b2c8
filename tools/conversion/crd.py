"""The 32x32 model zoo of "Contrastive Representation Distillation" (CRD), teachers and students."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmkdlayer.errors import ConfigError

from .networks import Rule, SourceNetwork, stage_blocks

KNOWN = 'resnet<6n+2>, resnet<6n+2>x4, wrn_<6n+4>_<k>, ShuffleV1, ShuffleV2, MobileNetV2, ResNet50'

_STEM: tuple[Rule, ...] = (
    (r'^backbone\.', ''),
    (r'^head\.fc\.', 'linear.'),
    (r'^conv1\.(conv|bn)\.', r'\g<1>1.'),
)


def _stage(match: re.Match) -> str:
    return f'layer{int(match[1]) + 1}.'


RULES: dict[str, tuple[Rule, ...]] = {
    'resnet': ((r'^(backbone|head)\.', ''),),
    'wrn': (
        (r'^(backbone|head)\.', ''),
        (r'^layer3\.final\.bn\.', 'bn1.'),
        (r'^layer(\d)\.', r'block\1.layer.'),
        (r'\.downsample\.', '.convShortcut.'),
    ),
    'ResNet50': (
        (r'^backbone\.', ''),
        (r'^head\.fc\.', 'linear.'),
        (r'\.downsample\.', '.shortcut.'),
    ),
    'ShuffleV1': (
        *_STEM,
        (r'^layers\.(\d)\.', _stage),
        (r'\.g_conv_1x1_compress\.(conv|bn)\.', r'.\g<1>1.'),
        (r'\.depthwise_conv3x3_bn\.(conv|bn)\.', r'.\g<1>2.'),
        (r'\.g_conv_1x1_expand\.(conv|bn)\.', r'.\g<1>3.'),
    ),
    'ShuffleV2': (
        *_STEM,
        (r'^layers\.3\.(conv|bn)\.', r'\g<1>2.'),
        (r'^layers\.(\d)\.', _stage),
        # The first unit of a stage numbers its right branch after the two layers of its left one.
        (r'\.0\.branch2\.(\d)\.(conv|bn)\.', lambda m: f'.0.{m[2]}{int(m[1]) + 3}.'),
        (r'\.branch[12]\.(\d)\.(conv|bn)\.', lambda m: f'.{m[2]}{int(m[1]) + 1}.'),
    ),
    'MobileNetV2': (
        (r'^backbone\.', ''),
        (r'^head\.fc\.', 'classifier.0.'),
        (r'^(conv[12])\.conv\.', r'\1.0.'),
        (r'^(conv[12])\.bn\.', r'\1.1.'),
        (r'^layer(\d)\.', lambda m: f'blocks.{int(m[1]) - 1}.'),
        (r'\.conv\.(\d)\.conv\.', lambda m: f'.conv.{3 * int(m[1])}.'),
        (r'\.conv\.(\d)\.bn\.', lambda m: f'.conv.{3 * int(m[1]) + 1}.'),
    ),
}

SINGLES: dict[str, tuple[dict[str, Any], int]] = {
    'ShuffleV1': ({'type': 'mmkdlayer.CifarShuffleNetV1'}, 960),
    'ShuffleV2': ({'type': 'mmkdlayer.CifarShuffleNetV2'}, 1024),
    'MobileNetV2': ({'type': 'mmkdlayer.CifarMobileNetV2'}, 1280),
    'ResNet50': ({'type': 'mmpretrain.ResNet_CIFAR', 'depth': 50}, 2048),
}


def crd_network(name: str) -> SourceNetwork:
    """The zoo's network of that name: ``resnet56``, ``wrn_40_2``, ``ShuffleV1``, ``ResNet50``, ...

    Raises:
        ConfigError: The zoo has no such network.
    """
    if name in SINGLES:
        backbone, channels = SINGLES[name]
        return SourceNetwork(name, backbone, channels, RULES[name])
    resnet = re.fullmatch(r'resnet(\d+)(x4)?', name)
    if resnet and int(resnet[1]) % 6 == 2:
        backbone = {'type': 'mmkdlayer.CifarResNet', 'depth': int(resnet[1])}
        if resnet[2]:
            backbone.update(stem_channels=32, base_channels=64)
        return SourceNetwork(name, backbone, 256 if resnet[2] else 64, RULES['resnet'])
    wide = re.fullmatch(r'wrn_(\d+)_(\d+)', name)
    if wide and int(wide[1]) % 6 == 4 and int(wide[2]) > 0:
        depth, factor = int(wide[1]), int(wide[2])
        backbone = {'type': 'mmkdlayer.CifarWideResNet', 'depth': depth, 'widen_factor': factor}
        return SourceNetwork(name, backbone, 64 * factor, RULES['wrn'])
    raise ConfigError(f'--arch: expected one of {KNOWN}, but got {name!r}.')


def detect_crd(state: Mapping[str, Tensor]) -> str | None:
    """Name of the zoo's network that these keys look like, or None."""
    stem = state.get('conv1.weight')
    if 'block1.layer.0.conv1.weight' in state:
        closing = state.get('bn1.weight')
        factor = 1 if closing is None else max(1, len(closing) // 64)
        return f'wrn_{6 * stage_blocks(state, "block1.layer.") + 4}_{factor}'
    if 'blocks.0.0.conv.0.weight' in state:
        return 'MobileNetV2'
    if stem is None or stem.dim() != 4 or stem.size(2) > 3:
        return None
    if 'layer1.0.shortcut.0.weight' in state:
        return 'ResNet50' if 'layer1.0.conv3.weight' in state else None
    if stem.size(2) == 1:
        return 'ShuffleV2' if 'layer1.0.conv5.weight' in state else 'ShuffleV1'
    if 'layer1.0.conv2.weight' not in state or 'layer1.0.conv3.weight' in state:
        return None
    if 'layer4.0.conv1.weight' in state:
        return None
    depth = 6 * stage_blocks(state, 'layer1.') + 2
    return f'resnet{depth}x4' if stem.size(0) == 32 else f'resnet{depth}'
