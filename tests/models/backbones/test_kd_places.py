"""The places for KD layers (docs/method.md, section 4) are plain module names with the right maps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mmkdlayer  # noqa: F401
from mmkdlayer.registry import MODELS

RESNET8 = {'type': 'mmkdlayer.CifarResNet', 'depth': 8}
X4 = {'stem_channels': 32, 'base_channels': 64}
WRN = {'type': 'mmkdlayer.CifarWideResNet'}
SHUFFLE_V1 = {'type': 'mmkdlayer.CifarShuffleNetV1'}
SHUFFLE_V2 = {'type': 'mmkdlayer.CifarShuffleNetV2'}
MOBILE = {'type': 'mmkdlayer.CifarMobileNetV2'}
RESNET50 = {'type': 'mmpretrain.ResNet_CIFAR', 'depth': 50}

# backbone, image side, inter: module, channels, side; penult: module, channels, side
CIFAR = [
    (RESNET8, ('layer3.0', 64, 8), ('layer3', 64, 8)),
    ({**RESNET8, 'depth': 56}, ('layer3.0', 64, 8), ('layer3', 64, 8)),
    ({**RESNET8, **X4}, ('layer3.0', 256, 8), ('layer3', 256, 8)),
    ({**WRN, 'depth': 16, 'widen_factor': 2}, ('layer3.0', 128, 8), ('layer3', 128, 8)),
    ({**WRN, 'depth': 40, 'widen_factor': 1}, ('layer3.0', 64, 8), ('layer3', 64, 8)),
    (SHUFFLE_V1, ('layers.2.0', 960, 4), ('layers.2', 960, 4)),
    (SHUFFLE_V2, ('layers.2.0', 464, 4), ('layers.3', 1024, 4)),
    (MOBILE, ('layer6.0', 80, 2), ('conv2', 1280, 2)),
    (RESNET50, ('layer4.0', 2048, 4), ('layer4', 2048, 4)),
]
IMAGENET = [
    ({'type': 'mmpretrain.ResNet', 'depth': 18}, ('layer4.0', 512, 7), ('layer4', 512, 7)),
    ({'type': 'mmpretrain.ResNet', 'depth': 34}, ('layer4.0', 512, 7), ('layer4', 512, 7)),
    ({'type': 'mmpretrain.ResNet', 'depth': 50}, ('layer4.0', 2048, 7), ('layer4', 2048, 7)),
    ({'type': 'mmkdlayer.MobileNetV1'}, ('layer5.0', 1024, 7), ('layer5', 1024, 7)),
    ({'type': 'mmpretrain.MobileNetV2'}, ('layer6.0', 160, 7), ('conv2', 1280, 7)),
]
CASES = [(*row, 32, 1) for row in CIFAR] + [(*row, 64, 2) for row in CIFAR]
CASES += [(*row, 224, 1) for row in IMAGENET]


def case_name(case):
    backbone = case[0]
    return '-'.join(str(value).split('.')[-1] for value in (*backbone.values(), case[3]))


@pytest.mark.parametrize('case', CASES, ids=case_name)
def test_hooked_maps(case):
    backbone, inter, penult, image_side, scale = case
    network = MODELS.build(backbone)
    network.eval()
    outputs = {}

    def hook(name):
        return lambda module, args, output: outputs.update({name: output})

    for name in (inter[0], penult[0]):
        network.get_submodule(name).register_forward_hook(hook(name))
    with torch.no_grad():
        (last,) = network(torch.randn(1, 3, image_side, image_side))
    for name, channels, side in (inter, penult):
        assert outputs[name].shape == (1, channels, side * scale, side * scale)
    # The penultimate place is the very map that is pooled, after its ReLU.
    assert outputs[penult[0]] is last
    assert last.min() >= 0
    if 'ResNet' in backbone['type'] or 'Shuffle' in backbone['type']:
        assert (last == 0).any()


@pytest.mark.parametrize('case', CASES[:9], ids=case_name)
def test_a_hook_that_replaces_the_map_reaches_the_output(case):
    backbone, inter, penult, image_side, _ = case
    # Batch statistics, since the signal fades in the eval mode of networks that never trained.
    network = MODELS.build(backbone)
    images = torch.randn(2, 3, image_side, image_side)
    with torch.no_grad():
        (plain,) = network(images)
        network.get_submodule(penult[0]).register_forward_hook(lambda m, a, out: out + 1)
        torch.testing.assert_close(network(images)[0], plain + 1)
        network.get_submodule(inter[0]).register_forward_hook(lambda m, a, out: out * 0)
        assert not torch.allclose(network(images)[0], plain + 1)


@pytest.mark.parametrize('case', CASES[:9], ids=case_name)
def test_recorded_map_is_not_overwritten_and_trains(case):
    backbone, inter, _, image_side, _ = case
    network = MODELS.build(backbone)
    network.train()
    kept = []
    network.get_submodule(inter[0]).register_forward_hook(
        lambda m, a, out: kept.extend([out, out.detach().clone()])
    )
    (last,) = network(torch.randn(2, 3, image_side, image_side))
    torch.testing.assert_close(kept[0].detach(), kept[1], rtol=0, atol=0)
    (last.sum() + kept[0].sum()).backward()
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert all(m.weight.grad is not None for m in convolutions)
