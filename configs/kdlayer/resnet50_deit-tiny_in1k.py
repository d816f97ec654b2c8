# letKD-2 on ImageNet: ResNet-50 teaches DeiT-Ti. No published figure belongs to this pair.
# The teacher's last maps are 7x7, the student's tokens 14x14: the nearest position decides.
_base_ = [
    '../_base_/datasets/imagenet_strong.py', '../_base_/schedules/adamw_300e.py',
    '../_base_/runtime.py']

model = dict(
    type='mmrazor.SingleTeacherDistill',
    architecture=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.VisionTransformer', arch='deit-tiny'),
        head=dict(
            type='mmpretrain.VisionTransformerClsHead', num_classes=1000, in_channels=192,
            loss=dict(
                type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'))),
    teacher=dict(
        type='mmpretrain.ImageClassifier', backbone=dict(type='mmpretrain.ResNet', depth=50),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=1000, in_channels=2048)),
    teacher_ckpt='https://download.openmmlab.com/mmclassification/v0/resnet/'
    'resnet50_8xb32_in1k_20210831-ea4938fc.pth',
    distiller=dict(type='mmkdlayer.KDLayerDistiller', kd_layers=dict(
        inter=dict(  # at three quarters of the depth: 1000 x 8 sub-classes
            module='backbone.layers.8', in_channels=192, teacher='backbone.layer4.0',
            decision=dict(
                type='mmkdlayer.SubclassDecision', num_classes=1000, mixed_classes=2)),
        penult=dict(  # before the last block: after it, patch tokens do not reach the logits
            module='backbone.layers.10', in_channels=192, teacher='backbone.layer4',
            decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=4096)))))
