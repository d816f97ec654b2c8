"""Where KD layers go in networks of many families, and what is said where that can't be told."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from configuring.networks import build_network, load_network
from configuring.places import (
    Place,
    choose_places,
    find_inter,
    find_penult,
    named_place,
)
from configuring.probing import Trace, probe
from mmkdlayer.errors import ConfigError
from mmkdlayer.models import attach_kd_layers

# model, image side, inter: module, (C, H, W); penult: module, (C, H, W)
FAMILIES = [
    ('resnet18_8xb32_in1k', 64, 'layer4.0', (512, 2, 2), 'layer4', (512, 2, 2)),
    ('resnext50-32x4d_8xb32_in1k', 64, 'layer4.0', (2048, 2, 2), 'layer4', (2048, 2, 2)),
    ('regnetx-400mf_8xb128_in1k', 64, 'layer4.0', (384, 2, 2), 'layer4', (384, 2, 2)),
    ('mobilenet-v2_8xb32_in1k', 64, 'layer6.0', (160, 2, 2), 'conv2', (1280, 2, 2)),
    ('mobilenet-v3-small-050_3rdparty_in1k', 64, 'layer9', (48, 2, 2), 'layer12', (288, 2, 2)),
    (
        'efficientnet-b0_3rdparty_8xb32_in1k',
        64,
        'layers.5.0',
        (192, 2, 2),
        'layers.6',
        (1280, 2, 2),
    ),
    ('shufflenet-v1-1x_16xb64_in1k', 64, 'layers.2.0', (960, 2, 2), 'layers.2', (960, 2, 2)),
    ('shufflenet-v2-1x_16xb64_in1k', 64, 'layers.2.0', (464, 2, 2), 'layers.3', (1024, 2, 2)),
    ('vgg11bn_8xb32_in1k', 224, 'features.10', (512, 14, 14), 'features.11', (512, 14, 14)),
    (
        'densenet121_3rdparty_in1k',
        64,
        'stages.3.block.0',
        (32, 2, 2),
        'transitions.3',
        (1024, 2, 2),
    ),
    ('convnext-tiny_32xb128_in1k', 64, 'stages.3.0', (768, 2, 2), 'stages.3', (768, 2, 2)),
    ('repvgg-a0_8xb32_in1k', 64, 'stage_4.0', (1280, 2, 2), 'stage_4', (1280, 2, 2)),
    ('poolformer-s12_3rdparty_32xb128_in1k', 64, 'network.6.0', (512, 2, 2), 'norm6', (512, 2, 2)),
    # the last map is no module's output, but one of the backbone's
    ('van-tiny_3rdparty_in1k', 64, 'blocks4.0', (256, 2, 2), ':0', (256, 2, 2)),
    ('resnet18_8xb16_cifar10', 32, 'layer4.0', (512, 4, 4), 'layer4', (512, 4, 4)),
]
# networks of this package, at the places of the paper's table
PUBLISHED = [
    (dict(type='CifarResNet', depth=20), 32, 'layer3.0', (64, 8, 8), 'layer3', (64, 8, 8)),
    (dict(type='CifarResNet', depth=8), 32, 'layer3.0', (64, 8, 8), 'layer3', (64, 8, 8)),
    (
        dict(type='CifarWideResNet', depth=16, widen_factor=2),
        *(32, 'layer3.0', (128, 8, 8), 'layer3', (128, 8, 8)),
    ),
    (dict(type='CifarShuffleNetV1'), 32, 'layers.2.0', (960, 4, 4), 'layers.2', (960, 4, 4)),
    (dict(type='CifarShuffleNetV2'), 32, 'layers.2.0', (464, 4, 4), 'layers.3', (1024, 4, 4)),
    (dict(type='CifarMobileNetV2'), 32, 'layer6.0', (80, 2, 2), 'conv2', (1280, 2, 2)),
    (dict(type='MobileNetV1'), 64, 'layer5.0', (1024, 2, 2), 'layer5', (1024, 2, 2)),
]
BOTH = dict(inter=None, penult=None)


def network(name: str, role: str = 'student') -> nn.Module:
    return build_network(load_network(name, role, 10).model, role)


def trace_of(model: nn.Module, side: int, role: str = 'student', name: str = 'net') -> Trace:
    return probe(model, side, role, name)


def place(name: str, shape: tuple) -> Place:
    if name.startswith(':'):
        return Place('backbone', int(name[1:]), shape)
    return Place(f'backbone.{name}', None, shape)


def check(model: nn.Module, side: int, inter: Place, penult: Place) -> None:
    assert choose_places(trace_of(model, side), BOTH) == dict(inter=inter, penult=penult)
    # The layers run once each, and what they add reaches the logits.
    places = dict(inter=inter, penult=penult)
    kd_layers = {
        name: dict(module=p.module, output_index=p.index, in_channels=p.shape[0], num_templates=4)
        for name, p in places.items()
    }
    attach_kd_layers(model, kd_layers)
    model.train()
    model(torch.randn(2, 3, side, side), mode='tensor').square().sum().backward()
    for layer in model.kd_layers.values():
        assert layer.semantics.scale.grad.abs() > 0


@pytest.mark.parametrize('row', FAMILIES, ids=lambda row: row[0])
def test_families(row: tuple) -> None:
    name, side, inter, inter_shape, penult, penult_shape = row
    model = network(name)
    assert model.training
    check(model, side, place(inter, inter_shape), place(penult, penult_shape))


@pytest.mark.parametrize('row', PUBLISHED, ids=lambda row: row[0]['type'])
def test_own_networks(row: tuple) -> None:
    backbone, side, inter, inter_shape, penult, penult_shape = row
    model = dict(
        type='ImageClassifier',
        backbone=dict(backbone, type=f'mmkdlayer.{backbone["type"]}'),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=penult_shape[0]),
    )
    check(
        build_network(model, 'student'),
        side,
        place(inter, inter_shape),
        place(penult, penult_shape),
    )


def test_penult_is_the_map_that_is_pooled_after_its_activation() -> None:
    model = network('mobilenet-v3-small-050_3rdparty_in1k').eval()
    seen = {}
    penult = find_penult(trace_of(model, 64))
    module = model.get_submodule(penult.module)
    module.register_forward_hook(lambda m, a, out: seen.update(out=out))
    model.neck.register_forward_pre_hook(lambda m, a: seen.update(pooled=a[0][-1]))
    with torch.no_grad():
        model(torch.randn(1, 3, 64, 64))
    assert seen['out'] is seen['pooled']


def message(name: str, names: dict, side: int = 64) -> str:
    with pytest.raises(ConfigError) as error:
        choose_places(trace_of(network(name, 'teacher'), side, 'teacher', name), names)
    return str(error.value)


# token networks and others at their own size, found in the same way: name, inter, penult
TOKENS = [
    # the head reads a class token: penult is before the last block
    ('deit-tiny_4xb256_in1k', 'layers.8', (192, 14, 14), 'layers.10', (192, 14, 14)),
    ('deit-tiny-distilled_3rdparty_in1k', 'layers.8', (192, 14, 14), 'layers.10', (192, 14, 14)),
    # the output of a stage is a tuple, and the backbone's a map
    ('swin-tiny_16xb64_in1k', 'stages.3.blocks.0', (768, 7, 7), ':0', (768, 7, 7)),
]


@pytest.mark.parametrize('row', TOKENS, ids=lambda row: row[0])
def test_tokens(row: tuple) -> None:
    name, inter, inter_shape, penult, penult_shape = row
    check(network(name), 224, place(inter, inter_shape), place(penult, penult_shape))


def transformer(**changes: object) -> nn.Module:
    """A plain transformer of 4 blocks, for 4x4 patches."""
    arch = dict(embed_dims=12, num_layers=4, num_heads=2, feedforward_channels=24)
    backbone = dict(type='VisionTransformer', arch=arch, img_size=32, patch_size=8, **changes)
    head = dict(type='VisionTransformerClsHead', num_classes=3, in_channels=12)
    if changes.get('out_type', 'cls_token') != 'cls_token':
        head['type'] = 'LinearClsHead'
    neck = dict(type='GlobalAveragePooling') if changes.get('out_type') == 'featmap' else None
    return build_network(
        dict(type='ImageClassifier', backbone=backbone, neck=neck, head=head), 'student'
    )


@pytest.mark.parametrize(
    ('out_type', 'penult'),
    [('cls_token', 'layers.2'), ('avg_featmap', 'ln1'), ('featmap', ':0')],
)
def test_what_the_head_reads_decides_where_penult_is(out_type: str, penult: str) -> None:
    trace = trace_of(transformer(out_type=out_type), 32)
    found = find_penult(trace)
    assert found == place(penult, (12, 4, 4))
    assert ('class token' in found.note) == (out_type == 'cls_token')
    assert ('backbone.layers.3' in found.note) == (out_type == 'cls_token')
    # after the last block: the pooled tokens reach the logits, those beside a class token do not
    assert trace.reaches(trace.once['backbone.layers.3'], None) == (out_type != 'cls_token')


def test_named_place_that_reaches_no_logit() -> None:
    model = transformer()
    names = dict(inter='backbone.layers.1', penult='backbone.layers.3')
    with pytest.raises(ConfigError) as error:
        choose_places(trace_of(model, 32), names)
    for word in ('--penult backbone.layers.3', 'no effect', 'class token'):
        assert word in str(error.value)
    # a teacher is only read there
    found = choose_places(trace_of(model, 32, 'teacher'), names)
    assert found['penult'] == place('layers.3', (12, 4, 4))


def test_tokens_of_which_the_network_says_something_else() -> None:
    """XCiT counts a class token, which its first blocks do not have yet."""
    backbone = dict(
        type='XCiT',
        img_size=64,
        patch_size=16,
        embed_dims=16,
        depth=4,
        cls_attn_layers=2,
        num_heads=2,
    )
    head = dict(type='LinearClsHead', num_classes=3, in_channels=16)
    model = build_network(
        dict(type='ImageClassifier', backbone=backbone, neck=None, head=head), 'student'
    )
    found = choose_places(trace_of(model, 64), BOTH)
    assert found['inter'] == Place('backbone.xca_layers.2', None, (16, 4, 4), extra_tokens=0)
    assert found['penult'] == place('ca_layers.0', (16, 4, 4))
    assert 'backbone.ca_layers.1' in found['penult'].note


def test_transposed_tokens_are_none() -> None:
    """MLP-Mixer returns (N, C, L), here of 16 x 16 channels: not 256 positions of 16 channels."""
    arch = dict(embed_dims=256, num_layers=4, tokens_mlp_dims=8, channels_mlp_dims=8)
    backbone = dict(type='MlpMixer', arch=arch, img_size=32, patch_size=8)
    model = build_network(
        dict(
            type='ImageClassifier',
            backbone=backbone,
            neck=dict(type='GlobalAveragePooling', dim=1),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=256),
        ),
        'student',
    )
    assert find_penult(trace_of(model, 32)) == place('ln1', (256, 4, 4))


def test_what_is_not_found_lists_modules() -> None:
    text = message('vit-base-p16_sam-pre_3rdparty_sa1b-1024px', BOTH, 32)
    for word in ('sam', '--teacher-inter', 'backbone.layers.11', '(no map)', '(1, 2, 2, 768)'):
        assert word in text
    assert 'cannot find "penult"' not in text
    assert '--letkd1' in text


@pytest.mark.parametrize('name', ['resnet18_8xb32_in1k', 'convnext-tiny_32xb128_in1k'])
def test_last_map_of_one_pixel(name: str) -> None:
    text = message(name, BOTH, 32)
    assert '1x1' in text
    assert '--image-size' in text


def test_image_size_that_the_network_does_not_take() -> None:
    text = message('vgg11bn_8xb32_in1k', BOTH, 64)
    assert 'images of 64x64' in text
    assert '--image-size' in text


class TestNamedPlaces:
    @pytest.fixture(scope='class')
    def trace(self):
        return trace_of(network('resnet18_8xb32_in1k'), 64)

    def test_module(self, trace) -> None:
        found = named_place(trace, 'backbone.layer3', '--inter')
        assert found == Place('backbone.layer3', None, (256, 4, 4))

    def test_one_output_of_several(self, trace) -> None:
        found = named_place(trace, 'backbone:0', '--penult')
        assert found == Place('backbone', 0, (512, 2, 2))

    @pytest.mark.parametrize(
        ('name', 'words'),
        [
            ('backbone.layer4.7', ('is not there', 'backbone.layer4.0')),
            ('backbone.layer4.0.relu', ('once in a forward pass', 'runs 2 times')),
            ('backbone', (':0 (1, 512, 2, 2)', 'MODULE:INDEX')),
            ('backbone:1', (':0 (1, 512, 2, 2)',)),
            ('backbone:x', ('MODULE:INDEX',)),
            ('neck.gap', ('(1, 512, 1, 1)', 'more than one position')),
            ('head.fc', ('(1, 1000)',)),
        ],
    )
    def test_refused(self, trace, name: str, words: tuple) -> None:
        with pytest.raises(ConfigError) as error:
            named_place(trace, name, '--inter')
        for word in (f'--inter {name}', *words):
            assert word.replace('1000', '10') in str(error.value)


class Overwriting(nn.Module):
    """The first block of its last stage gives a map that the next one overwrites."""

    def __init__(self) -> None:
        super().__init__()

        def block(channels: int, stride: int) -> nn.Module:
            return Block(nn.ReLU(inplace=True), nn.Conv2d(channels, 4, 3, stride, 1))

        self.backbone = nn.Sequential(block(3, 1), block(4, 2), block(4, 1))

    def forward(self, image: torch.Tensor, mode: str = 'tensor') -> torch.Tensor:
        return self.backbone(image).mean((2, 3))


class Block(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


def test_map_that_is_overwritten_in_place() -> None:
    trace = trace_of(Overwriting(), 8, 'teacher')
    with pytest.raises(ConfigError, match='backbone.1 is overwritten in place'):
        find_inter(trace)
    with pytest.raises(ConfigError, match='--inter backbone.1: its output is overwritten in place'):
        named_place(trace, 'backbone.1', '--inter')
    assert find_penult(trace).shape == (4, 4, 4)


def test_overwriting_what_a_kd_layer_returns_is_harmless() -> None:
    """The layer reads what the module returned, which nothing writes to any more."""
    model = Overwriting()
    check(model, 8, Place('backbone.1', None, (4, 4, 4)), Place('backbone', None, (4, 4, 4)))
    layer, x = model.kd_layers['inter'], torch.randn(1, 3, 8, 8)
    before = model.backbone[0](x)
    with torch.no_grad():
        model.eval()
        expected = model.backbone[2](layer(model.backbone[1].forward(before))).detach()
        expected = model.kd_layers['penult'](expected).mean((2, 3))
        torch.testing.assert_close(model(x), expected)


def test_probing_leaves_the_network_as_it_was() -> None:
    model = network('resnet18_8xb16_cifar10')
    model.backbone.layer1.eval()
    modes = [module.training for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    trace_of(model, 32)
    assert [module.training for module in model.modules()] == modes
    assert all(not module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
