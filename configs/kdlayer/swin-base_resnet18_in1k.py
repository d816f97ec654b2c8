# letKD-2 on ImageNet: Swin-B teaches ResNet-18. No published figure belongs to this pair.
_base_ = [
    '../_base_/datasets/imagenet_bs256.py', '../_base_/schedules/sgd_100e.py', '../_base_/runtime.py']

model = dict(
    type='mmrazor.SingleTeacherDistill',
    architecture=dict(
        type='mmpretrain.ImageClassifier', backbone=dict(type='mmpretrain.ResNet', depth=18),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=1000, in_channels=512)),
    teacher=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.SwinTransformer', arch='base', img_size=224),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=1000, in_channels=1024)),
    teacher_ckpt='https://download.openmmlab.com/mmclassification/v0/swin-transformer/'
    'swin_base_224_b16x64_300e_imagenet_20210616_190742-93230b0d.pth',
    distiller=dict(type='mmkdlayer.KDLayerDistiller', kd_layers=dict(
        inter=dict(  # after the first block of the last stage: 1000 x 8 sub-classes
            module='backbone.layer4.0', in_channels=512, teacher='backbone.stages.3.blocks.0',
            decision=dict(type='mmkdlayer.SubclassDecision', num_classes=1000)),
        penult=dict(  # after the last map before pooling
            module='backbone.layer4', in_channels=512, teacher='backbone.norm3',
            decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=4096)))))
