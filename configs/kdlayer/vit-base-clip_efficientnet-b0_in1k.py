# letKD-2 on ImageNet: CLIP's ViT-B/16 (image tower, fine-tuned on ImageNet) teaches EfficientNet-B0.
# No published figure belongs to this pair.
_base_ = [
    '../_base_/datasets/imagenet_bs256.py', '../_base_/schedules/sgd_100e.py', '../_base_/runtime.py']
optim_wrapper = dict(optimizer=dict(weight_decay=4e-5))

model = dict(
    type='mmrazor.SingleTeacherDistill',
    architecture=dict(
        type='mmpretrain.ImageClassifier', backbone=dict(type='mmpretrain.EfficientNet', arch='b0'),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=1000, in_channels=1280)),
    teacher=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.VisionTransformer', arch='b', pre_norm=True),
        head=dict(type='mmpretrain.VisionTransformerClsHead', num_classes=1000, in_channels=768)),
    teacher_ckpt='https://download.openmmlab.com/mmclassification/v0/clip/'
    'clip-vit-base-p16_openai-in12k-pre_3rdparty_in1k_20221220-90d930a8.pth',
    distiller=dict(type='mmkdlayer.KDLayerDistiller', kd_layers=dict(
        inter=dict(  # after the first block of the last stage: 1000 x 8 sub-classes
            module='backbone.layers.5.0', in_channels=192, teacher='backbone.layers.8',
            decision=dict(type='mmkdlayer.SubclassDecision', num_classes=1000)),
        penult=dict(  # after the last map before pooling
            module='backbone.layers.6', in_channels=1280, teacher='backbone.layers.10',
            decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=4096)))))
