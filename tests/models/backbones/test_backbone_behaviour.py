"""What mmpretrain's backbones promise, asked of every backbone here."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkdlayer.models.backbones import (
    CifarMobileNetV2,
    CifarResNet,
    CifarShuffleNetV1,
    CifarShuffleNetV2,
    CifarWideResNet,
    MobileNetV1,
)

# class, arguments, module of each stage, (channels, side) of each stage's map for a 32x32 image
BACKBONES = [
    (CifarResNet, {'depth': 8}, ('layer1', 'layer2', 'layer3'), ((16, 32), (32, 16), (64, 8))),
    (
        CifarWideResNet,
        {'depth': 10, 'widen_factor': 2},
        ('layer1', 'layer2', 'layer3'),
        ((32, 32), (64, 16), (128, 8)),
    ),
    (
        CifarShuffleNetV1,
        {},
        ('layers.0', 'layers.1', 'layers.2'),
        ((240, 16), (480, 8), (960, 4)),
    ),
    (
        CifarShuffleNetV2,
        {},
        ('layers.0', 'layers.1', 'layers.2', 'layers.3'),
        ((116, 16), (232, 8), (464, 4), (1024, 4)),
    ),
    (
        CifarMobileNetV2,
        {},
        (*(f'layer{i}' for i in range(1, 8)), 'conv2'),
        ((8, 16), (12, 16), (16, 8), (32, 4), (48, 4), (80, 2), (160, 2), (1280, 2)),
    ),
    (
        MobileNetV1,
        {},
        tuple(f'layer{i}' for i in range(1, 6)),
        ((64, 16), (128, 8), (256, 4), (512, 2), (1024, 1)),
    ),
]
each = pytest.mark.parametrize(
    ('network', 'arguments', 'stages', 'maps'),
    BACKBONES,
    ids=[row[0].__name__ for row in BACKBONES],
)


@each
@pytest.mark.parametrize('scale', [1, 2])
def test_shapes_of_every_stage(network, arguments, stages, maps, scale):
    backbone = network(**arguments, out_indices=tuple(range(len(maps))))
    backbone.eval()
    with torch.no_grad():
        outputs = backbone(torch.randn(1, 3, 32 * scale, 32 * scale))
    assert isinstance(outputs, tuple)
    assert [tuple(out.shape) for out in outputs] == [
        (1, channels, side * scale, side * scale) for channels, side in maps
    ]
    backbone = network(**arguments)
    (last,) = backbone(torch.randn(2, 3, 32, 48))
    channels, side = maps[-1]
    assert last.shape == (2, channels, side, math.ceil(side * 1.5))


@each
def test_frozen_stages_stay_as_they_are(network, arguments, stages, maps):
    backbone = network(**arguments, frozen_stages=1)
    backbone.train()
    frozen = [backbone.conv1, backbone.get_submodule(stages[0])]
    for module in frozen:
        assert not any(parameter.requires_grad for parameter in module.parameters())
    assert not any(m.training for m in frozen[1].modules())
    for name in stages[1:]:
        module = backbone.get_submodule(name)
        assert all(parameter.requires_grad for parameter in module.parameters())
        assert all(m.training for m in module.modules())


@each
def test_norm_eval_keeps_running_statistics(network, arguments, stages, maps):
    images = torch.randn(2, 3, 64, 64)
    for norm_eval in (True, False):
        backbone = network(**arguments, norm_eval=norm_eval)
        backbone.train()
        norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
        assert all(norm.training is not norm_eval for norm in norms)
        backbone(images)
        assert all((norm.running_mean == 0).all() == norm_eval for norm in norms)


@each
def test_init_weights(network, arguments, stages, maps):
    backbone = network(**arguments)
    for parameter in backbone.parameters():
        nn.init.constant_(parameter, 7.0)
    backbone.init_weights()
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            fan_out = module.weight.size(0) * module.weight[0, 0].numel()
            # torch's own: uniform, bound 1/sqrt(fan_in). Else Kaiming: normal, over the outputs.
            torch_like = network in (CifarShuffleNetV1, CifarShuffleNetV2)
            expected = 1 / math.sqrt(3 * fan_in) if torch_like else math.sqrt(2 / fan_out)
            count = module.weight.numel()
            assert module.weight.std().item() == pytest.approx(
                expected, rel=4 / math.sqrt(count) + 0.02
            )
        if isinstance(module, _BatchNorm):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()


@each
def test_init_from_a_checkpoint(network, arguments, stages, maps, tmp_path):
    source = network(**arguments)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(0.5)
    torch.save({'state_dict': source.state_dict()}, tmp_path / 'source.pth')
    pretrained = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'source.pth')}
    target = network(**arguments, init_cfg=pretrained)
    target.init_weights()
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor), name


@each
def test_checkpointing_gives_the_same_gradients(network, arguments, stages, maps):
    if network is MobileNetV1:
        with pytest.raises(TypeError, match='with_cp'):
            network(with_cp=True)
        return
    plain = network(**arguments).double()
    plain.train()
    saving = network(**arguments, with_cp=True).double()
    saving.train()
    saving.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    for backbone in (plain, saving):
        backbone(images)[0].square().sum().backward()
    for (name, one), other in zip(plain.named_parameters(), saving.parameters()):
        torch.testing.assert_close(other.grad, one.grad, msg=name)
