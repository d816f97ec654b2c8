# letKD-2 on ImageNet: ResNet-50 teaches MobileNetV1.
# This is the pair that the paper calls ResNet-50 -> "MNV2": its published code builds a MobileNetV1.
_base_ = ['../_base_/datasets/imagenet_bs256.py', '../_base_/runtime.py']
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[30, 60, 90], gamma=0.1)
train_cfg = dict(type='mmkdlayer.ResumableEpochLoop', max_epochs=100, val_interval=1)

model = dict(
    type='mmrazor.SingleTeacherDistill',
    architecture=dict(
        type='mmpretrain.ImageClassifier', backbone=dict(type='mmkdlayer.MobileNetV1'),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=1000, in_channels=1024)),
    teacher=dict(
        type='mmpretrain.ImageClassifier', backbone=dict(type='mmpretrain.ResNet', depth=50),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=1000, in_channels=2048)),
    teacher_ckpt='https://download.openmmlab.com/mmclassification/v0/resnet/'
    'resnet50_8xb32_in1k_20210831-ea4938fc.pth',
    distiller=dict(type='mmkdlayer.KDLayerDistiller', kd_layers=dict(
        inter=dict(  # after the first block of the last stage: 1000 x 8 sub-classes
            module='backbone.layer5.0', in_channels=1024, teacher='backbone.layer4.0',
            decision=dict(type='mmkdlayer.SubclassDecision', num_classes=1000)),
        penult=dict(  # after the last map before pooling
            module='backbone.layer5', in_channels=1024, teacher='backbone.layer4',
            decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=4096)))))
