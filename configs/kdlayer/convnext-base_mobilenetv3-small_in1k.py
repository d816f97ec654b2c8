# letKD-2 on ImageNet: ConvNeXt-B teaches MobileNetV3-small. No published figure belongs to this pair.
_base_ = [
    '../_base_/datasets/imagenet_bs256.py', '../_base_/schedules/sgd_100e.py', '../_base_/runtime.py']
optim_wrapper = dict(optimizer=dict(weight_decay=4e-5))

model = dict(
    type='mmrazor.SingleTeacherDistill',
    architecture=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.MobileNetV3', arch='small'),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='mmpretrain.StackedLinearClsHead', num_classes=1000, in_channels=576,
            mid_channels=[1024], dropout_rate=0.2, act_cfg=dict(type='HSwish'))),
    teacher=dict(
        type='mmpretrain.ImageClassifier', backbone=dict(type='mmpretrain.ConvNeXt', arch='base'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=1000, in_channels=1024)),
    teacher_ckpt='https://download.openmmlab.com/mmclassification/v0/convnext/'
    'convnext-base_32xb128_in1k_20221207-fbdb5eb9.pth',
    distiller=dict(type='mmkdlayer.KDLayerDistiller', kd_layers=dict(
        inter=dict(  # after the first block of the last stage: 1000 x 8 sub-classes
            module='backbone.layer9', in_channels=96, teacher='backbone.stages.3.0',
            decision=dict(type='mmkdlayer.SubclassDecision', num_classes=1000)),
        penult=dict(  # after the last map before pooling
            module='backbone.layer12', in_channels=576, teacher='backbone.stages.3',
            decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=4096)))))
