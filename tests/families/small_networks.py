"""The families of mmpretrain's image classifiers, each in a small form: few and narrow blocks."""

from __future__ import annotations

from typing import Any

CLASSES = 3
GAP = dict(type='GlobalAveragePooling')
#: A plain transformer of 4 blocks for 4x4 patches of 8x8 pixels.
TRANSFORMER = dict(embed_dims=24, num_layers=4, num_heads=2, feedforward_channels=48)
VIT = dict(arch=TRANSFORMER, img_size=32, patch_size=8)


def classifier(channels: Any, neck: Any, head: str = 'LinearClsHead', **backbone: Any) -> dict:
    """The config of a network; ``channels`` are those that its head gets."""
    return dict(
        type='ImageClassifier',
        backbone=backbone,
        neck=neck,
        head=dict(type=head, num_classes=CLASSES, in_channels=channels),
    )


def _vit(head: str = 'VisionTransformerClsHead', **changes: Any) -> dict:
    return classifier(24, None, head, **{'type': 'VisionTransformer', **VIT, **changes})


def _pooled(channels: int, **backbone: Any) -> dict:
    return classifier(channels, GAP, **backbone)


_RESNET = dict(depth=18, stem_channels=8, base_channels=8)
_BOTTLENECKS = dict(depth=50, stem_channels=8, base_channels=8)
_HRNET = [
    [1, 1, 'BOTTLENECK', (1,), (4,)],
    [1, 2, 'BASIC', (1, 1), (4, 8)],
    [2, 3, 'BASIC', (1, 1, 1), (4, 8, 12)],
    [2, 4, 'BASIC', (1, 1, 1, 1), (4, 8, 12, 16)],
]
_HRNET = {
    f'stage{number}': dict(
        zip(('num_modules', 'num_branches', 'block', 'num_blocks', 'num_channels'), stage)
    )
    for number, stage in enumerate(_HRNET, 1)
}
_HIERARCHY = dict(embed_dims=16, depths=[1, 1, 3, 2], num_heads=[1, 2, 4, 8])
_TWINS = dict(
    embed_dims=[8, 16, 24, 32],
    depths=[1, 1, 4, 2],
    num_heads=[1, 2, 2, 2],
    patch_sizes=[4, 2, 2, 2],
    strides=[4, 2, 2, 2],
    mlp_ratios=[2, 2, 2, 2],
    sr_ratios=[4, 2, 1, 1],
)
_META = dict(
    layers=[1, 1, 3, 2],
    embed_dims=[8, 16, 24, 32],
    mlp_ratios=[2] * 4,
    layer_scale_init_value=1e-5,
)

#: Backbone type, or what tells apart two of a type: image side, config.
FAMILIES: dict[str, tuple[int, dict]] = {
    # found before tokens were: maps all the way
    'ResNet': (64, _pooled(64, type='ResNet', **_RESNET)),
    'ResNet_CIFAR': (
        32,
        _pooled(64, type='ResNet_CIFAR', depth=18, base_channels=8, stem_channels=8),
    ),
    'ResNetV1c': (64, _pooled(256, type='ResNetV1c', **_BOTTLENECKS)),
    'ResNetV1d': (64, _pooled(256, type='ResNetV1d', **_BOTTLENECKS)),
    'ResNeXt': (64, _pooled(256, type='ResNeXt', groups=4, width_per_group=4, **_BOTTLENECKS)),
    'ResNeSt': (64, _pooled(256, type='ResNeSt', **_BOTTLENECKS)),
    'SEResNet': (64, _pooled(256, type='SEResNet', **_BOTTLENECKS)),
    'SEResNeXt': (64, _pooled(256, type='SEResNeXt', groups=4, width_per_group=4, **_BOTTLENECKS)),
    'Res2Net': (64, _pooled(256, type='Res2Net', scales=4, base_width=26, **_BOTTLENECKS)),
    'RegNet': (
        64,
        _pooled(
            384,
            type='RegNet',
            arch=dict(w0=24, wa=24.48, wm=2.54, group_w=16, depth=22, bot_mul=1.0),
        ),
    ),
    'MobileNetV2': (64, _pooled(1280, type='MobileNetV2', widen_factor=0.1)),
    'MobileNetV3': (64, _pooled(288, type='MobileNetV3', arch='small_050')),
    'EfficientNet': (64, _pooled(1280, type='EfficientNet', arch='b0')),
    'EfficientNetV2': (64, _pooled(1280, type='EfficientNetV2', arch='b0')),
    'ShuffleNetV1': (64, _pooled(960, type='ShuffleNetV1')),
    'ShuffleNetV2': (64, _pooled(1024, type='ShuffleNetV2', widen_factor=0.5)),
    'VGG': (
        224,
        dict(
            classifier(0, None, type='VGG', depth=11, num_classes=CLASSES),
            head=dict(type='ClsHead'),
        ),
    ),
    'DenseNet': (
        64,
        _pooled(
            31, type='DenseNet', arch=dict(growth_rate=8, depths=[1, 2, 2, 2], init_channels=16)
        ),
    ),
    'InceptionV3': (
        139,
        dict(
            classifier(0, None, type='InceptionV3', num_classes=CLASSES), head=dict(type='ClsHead')
        ),
    ),
    'ConvNeXt': (
        64,
        classifier(
            32, None, type='ConvNeXt', arch=dict(depths=[1, 1, 3, 2], channels=[8, 16, 24, 32])
        ),
    ),
    'RepVGG': (
        64,
        _pooled(
            80,
            type='RepVGG',
            base_channels=8,
            arch=dict(
                num_blocks=[1, 1, 3, 2],
                width_factor=[1, 1, 1, 1.25],
                group_layer_map=None,
                se_cfg=None,
            ),
        ),
    ),
    'MobileOne': (
        64,
        _pooled(
            64,
            type='MobileOne',
            arch=dict(
                num_blocks=[1, 1, 3, 2],
                width_factor=[0.125] * 4,
                num_conv_branches=[1] * 4,
                num_se_blocks=[0] * 4,
            ),
        ),
    ),
    'PoolFormer': (64, _pooled(32, type='PoolFormer', arch=_META)),
    'RIFormer': (64, _pooled(32, type='RIFormer', arch=_META)),
    'HorNet': (
        64,
        classifier(
            64,
            None,
            type='HorNet',
            arch=dict(
                base_dim=8,
                depths=[1, 1, 3, 2],
                orders=[2, 2, 2, 2],
                dw_cfg=[dict(type='DW', kernel_size=7)] * 4,
            ),
        ),
    ),
    'VAN': (
        64,
        _pooled(
            32,
            type='VAN',
            arch=dict(embed_dims=[8, 16, 24, 32], depths=[1, 1, 3, 2], ffn_ratios=[2] * 4),
        ),
    ),
    'EdgeNeXt': (
        64,
        classifier(
            48,
            None,
            type='EdgeNeXt',
            arch=dict(channels=[16, 24, 32, 48], depths=[2, 2, 3, 2], num_heads=[4] * 4),
        ),
    ),
    'MobileViT': (64, _pooled(320, type='MobileViT', arch='xx_small')),
    'RepLKNet': (
        64,
        _pooled(
            32,
            type='RepLKNet',
            arch=dict(
                large_kernel_sizes=[7] * 4,
                layers=[1, 1, 3, 2],
                channels=[8, 16, 24, 32],
                small_kernel=3,
                dw_ratio=1,
            ),
        ),
    ),
    'RepMLPNet': (
        64,
        _pooled(
            32,
            type='RepMLPNet',
            img_size=64,
            arch=dict(channels=[8, 16, 24, 32], depths=[1, 1, 3, 2], sharesets_nums=[1, 1, 1, 1]),
        ),
    ),
    'PyramidVig': (224, classifier(384, GAP, 'VigClsHead', type='PyramidVig', arch='tiny', k=3)),
    # maps whose stages were not told apart
    'ConvMixer': (
        32,
        _pooled(
            16, type='ConvMixer', arch=dict(embed_dims=16, depth=4, patch_size=4, kernel_size=3)
        ),
    ),
    'Vig': (224, classifier(192, GAP, 'VigClsHead', type='Vig', arch='tiny', k=3)),
    'CSPDarkNet': (64, _pooled(1024, type='CSPDarkNet', depth=53)),
    'CSPResNet': (64, _pooled(1024, type='CSPResNet', depth=50)),
    'CSPResNeXt': (64, _pooled(2048, type='CSPResNeXt', depth=50)),
    'HRNet': (
        64,
        classifier(
            2048,
            [dict(type='HRFuseScales', in_channels=(4, 8, 12, 16)), GAP],
            type='HRNet',
            extra=_HRNET,
        ),
    ),
    'Conformer': (
        64,
        classifier(
            [256, 48],
            None,
            'ConformerHead',
            type='Conformer',
            arch=dict(channel_ratio=1, embed_dims=48, depths=12, num_heads=2),
        ),
    ),
    # tokens
    'VisionTransformer': (32, _vit()),
    'VisionTransformer, pooled': (32, _vit('LinearClsHead', out_type='avg_featmap')),
    'VisionTransformer, map': (32, {**_vit('LinearClsHead', out_type='featmap'), 'neck': GAP}),
    'VisionTransformer, DINOv2': (28, _vit(img_size=28, patch_size=7, layer_scale_init_value=1e-5)),
    'MoCoV3ViT': (32, {**_vit(type='MoCoV3ViT', stop_grad_conv1=True)}),
    'DistilledVisionTransformer': (32, _vit('DeiTClsHead', type='DistilledVisionTransformer')),
    'DeiT3': (32, _vit(type='DeiT3')),
    'BEiTViT': (32, _vit('LinearClsHead', type='BEiTViT')),
    'ViTEVA02': (
        32,
        _vit('LinearClsHead', type='ViTEVA02', out_type='avg_featmap', final_norm=False),
    ),
    'LoRAModel': (
        32,
        classifier(
            24,
            None,
            'VisionTransformerClsHead',
            type='LoRAModel',
            module=dict(type='VisionTransformer', **VIT),
            alpha=16,
            rank=4,
            targets=[dict(type='qkv')],
        ),
    ),
    'RevVisionTransformer': (
        32,
        classifier(48, None, type='RevVisionTransformer', no_custom_backward=True, **VIT),
    ),
    'T2T_ViT': (
        64,
        classifier(
            24,
            None,
            'VisionTransformerClsHead',
            type='T2T_ViT',
            img_size=64,
            embed_dims=24,
            num_layers=4,
            t2t_cfg=dict(token_dims=8),
            layer_cfgs=dict(num_heads=2, feedforward_channels=48),
        ),
    ),
    'TNT': (
        32,
        classifier(
            24,
            None,
            type='TNT',
            img_size=32,
            patch_size=8,
            arch=dict(
                embed_dims_outer=24,
                embed_dims_inner=8,
                num_layers=4,
                num_heads_inner=2,
                num_heads_outer=2,
            ),
        ),
    ),
    'XCiT': (
        64,
        classifier(
            16, None, type='XCiT', img_size=64, patch_size=16, embed_dims=16, depth=4, num_heads=2
        ),
    ),
    'MlpMixer': (
        32,
        classifier(
            24,
            dict(GAP, dim=1),
            type='MlpMixer',
            img_size=32,
            patch_size=8,
            arch=dict(embed_dims=24, num_layers=4, tokens_mlp_dims=16, channels_mlp_dims=32),
        ),
    ),
    'SwinTransformer': (
        64,
        _pooled(128, type='SwinTransformer', img_size=64, window_size=2, arch=_HIERARCHY),
    ),
    'SwinTransformerV2': (
        64,
        _pooled(
            128,
            type='SwinTransformerV2',
            img_size=64,
            window_size=2,
            arch=dict(_HIERARCHY, extra_norm_every_n_blocks=0),
        ),
    ),
    'DaViT': (64, _pooled(128, type='DaViT', window_size=2, arch=_HIERARCHY)),
    'MixMIMTransformer': (
        64,
        classifier(
            128, None, type='MixMIMTransformer', img_size=64, window_size=[2] * 4, arch=_HIERARCHY
        ),
    ),
    'HiViT': (
        64,
        _pooled(
            32,
            type='HiViT',
            img_size=64,
            arch=dict(embed_dims=32, depths=[1, 1, 8], num_heads=2),
            ape=True,
            rpe=True,
            out_indices=[7],
        ),
    ),
    'MViT': (
        64,
        _pooled(
            64,
            type='MViT',
            img_size=64,
            arch=dict(embed_dims=8, num_layers=6, num_heads=1, downscale_indices=[1, 2, 4]),
        ),
    ),
    'PCPVT': (
        64,
        _pooled(32, type='PCPVT', arch=_TWINS, norm_after_stage=[False, False, False, True]),
    ),
    'SVT': (
        64,
        _pooled(
            32,
            type='SVT',
            arch=dict(_TWINS, window_sizes=[2, 2, 2, 2]),
            norm_after_stage=[False, False, False, True],
        ),
    ),
    'TinyViT': (
        64,
        classifier(
            32,
            None,
            type='TinyViT',
            img_size=(64, 64),
            window_size=[2] * 4,
            arch=dict(channels=[8, 16, 24, 32], num_heads=[1, 2, 2, 2], depths=[1, 1, 3, 2]),
        ),
    ),
    'LeViT': (
        224,
        {**classifier(384, GAP, 'LeViTClsHead', type='LeViT', arch='128s', img_size=224)},
    ),
    'EfficientFormer': (
        224,
        classifier(
            32,
            dict(GAP, dim=1),
            'EfficientFormerClsHead',
            type='EfficientFormer',
            arch=dict(
                layers=[1, 1, 3, 3],
                embed_dims=[8, 16, 24, 32],
                downsamples=[False, True, True, True],
                vit_num=1,
            ),
        ),
    ),
    'EfficientFormer, tokens': (
        224,
        classifier(
            32,
            dict(GAP, dim=1),
            'EfficientFormerClsHead',
            type='EfficientFormer',
            arch=dict(
                layers=[2, 2, 3, 2],
                embed_dims=[8, 16, 24, 32],
                downsamples=[False, True, True, True],
                vit_num=2,
            ),
        ),
    ),
}

#: Places of KD layers, "inter" and "penult", below "backbone"; MODULE:INDEX is one of several outputs.
PLACES: dict[str, tuple[str, str]] = {
    'ResNet': ('layer4.0', 'layer4'),
    'ResNet_CIFAR': ('layer4.0', 'layer4'),
    'ResNetV1c': ('layer4.0', 'layer4'),
    'ResNetV1d': ('layer4.0', 'layer4'),
    'ResNeXt': ('layer4.0', 'layer4'),
    'ResNeSt': ('layer4.0', 'layer4'),
    'SEResNet': ('layer4.0', 'layer4'),
    'SEResNeXt': ('layer4.0', 'layer4'),
    'Res2Net': ('layer4.0', 'layer4'),
    'RegNet': ('layer4.0', 'layer4'),
    'MobileNetV2': ('layer6.0', 'conv2'),
    'MobileNetV3': ('layer9', 'layer12'),
    'EfficientNet': ('layers.5.0', 'layers.6'),
    'EfficientNetV2': ('layers.6.0', 'layers.7'),
    'ShuffleNetV1': ('layers.2.0', 'layers.2'),
    'ShuffleNetV2': ('layers.2.0', 'layers.3'),
    'VGG': ('features.10', 'features.11'),
    'DenseNet': ('stages.3.block.0', 'transitions.3'),
    'InceptionV3': ('Mixed_7b', 'Mixed_7c'),
    'ConvNeXt': ('stages.3.0', 'stages.3'),
    'RepVGG': ('stage_4.0', 'stage_4'),
    'MobileOne': ('stage4.0', 'stage4'),
    'PoolFormer': ('network.6.0', 'norm6'),
    'RIFormer': ('network.6.0', 'norm6'),
    'HorNet': ('stages.3.0', 'stages.3'),
    'VAN': ('blocks4.0', ':0'),
    'EdgeNeXt': ('stages.3.0', 'stages.3'),
    'MobileViT': ('layers.4.0', 'conv_1x1_exp'),
    'RepLKNet': ('stages.3.blocks.0', 'stages.3.norm'),
    'RepMLPNet': ('stages.3.0', 'final_norm'),
    'PyramidVig': ('stages.3.1.0', 'stages.3'),
    'ConvMixer': ('stages.2', 'stages.3'),
    'Vig': ('blocks.8', 'blocks.11'),
    'CSPDarkNet': ('stages.4.blocks.0', 'stages.4'),
    'CSPResNet': ('stages.3.blocks.0', 'stages.3'),
    'CSPResNeXt': ('stages.3.blocks.0', 'stages.3'),
    'HRNet': ('stage4.0:3', 'neck.0.final_layer'),
    'Conformer': ('conv_trans_9:0', 'conv_trans_12:0'),
    'VisionTransformer': ('layers.1', 'layers.2'),
    'VisionTransformer, pooled': ('layers.2', 'ln1'),
    'VisionTransformer, map': ('layers.2', ':0'),
    'VisionTransformer, DINOv2': ('layers.1', 'layers.2'),
    'MoCoV3ViT': ('layers.1', 'layers.2'),
    'DistilledVisionTransformer': ('layers.1', 'layers.2'),
    'DeiT3': ('layers.1', 'layers.2'),
    'BEiTViT': ('layers.2', 'layers.3'),
    'ViTEVA02': ('layers.2', 'layers.3'),
    'LoRAModel': ('module.layers.1', 'module.layers.2'),
    'RevVisionTransformer': ('layers.2:0', 'fusion_layer'),
    'T2T_ViT': ('encoder.1', 'encoder.2'),
    'TNT': ('layers.1:1', 'layers.2:1'),
    'XCiT': ('xca_layers.2', 'ca_layers.0'),
    'MlpMixer': ('layers.2', 'ln1'),
    'SwinTransformer': ('stages.3.blocks.0', ':0'),
    'SwinTransformerV2': ('stages.3.blocks.0', ':0'),
    'DaViT': ('stages.3.blocks.0', ':0'),
    'MixMIMTransformer': ('layers.3.blocks.0', 'norm'),
    'HiViT': ('blocks.6', ':0'),
    'MViT': ('blocks.4:0', ':0'),
    'PCPVT': ('stages.3.0', ':0'),
    'SVT': ('stages.3.0', ':0'),
    'TinyViT': ('stages.3.blocks.0', 'stages.3'),
    'LeViT': ('stages.2.1', ':0'),
    'EfficientFormer': ('network.3.1', 'norm3'),
    'EfficientFormer, tokens': ('network.3.2', 'norm3'),
}
#: Those whose head reads a class token, and which therefore have "penult" before the last block.
READS_CLASS_TOKEN = (
    'VisionTransformer',
    'VisionTransformer, DINOv2',
    'MoCoV3ViT',
    'DistilledVisionTransformer',
    'DeiT3',
    'LoRAModel',
    'T2T_ViT',
    'TNT',
    'XCiT',
)
#: Their blocks overwrite what the one before gave, so that they can't be read afterwards.
NO_TEACHERS = ('TNT',)
#: Backbones of configs that are no image classifiers: of pre-training, of text, and without a head.
OF_OTHER_MODELS = (
    *(
        'BEiTPretrainViT',
        'CAEPretrainViT',
        'MAEHiViT',
        'MAEViT',
        'MFFViT',
        'MILANViT',
        'MaskFeatViT',
    ),
    *(
        'MixMIMPretrainTransformer',
        'SimMIMSwinTransformer',
        'SparseConvNeXt',
        'SparseResNet',
        'iTPNHiViT',
    ),
    *('BertModel', 'BertModelCN', 'CLIPTransformer', 'ModifiedResNet', 'OPTForCausalLM', 'Qformer'),
    *('XBertEncoder', 'ViTSAM'),
)
#: Classifiers whose last map has one position, so that there are no regions to compare.
WITHOUT_REGIONS = ('LeNet5',)
