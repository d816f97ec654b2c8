# letKD-2 on Tiny-ImageNet: WRN-40-2 teaches ShuffleNetV1.
_base_ = [
    '../_base_/datasets/tinyimagenet.py', '../_base_/schedules/cifar_240e.py',
    '../_base_/runtime.py']
optim_wrapper = dict(optimizer=dict(lr=0.01))

model = dict(
    type='mmrazor.SingleTeacherDistill',
    architecture=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmkdlayer.CifarShuffleNetV1'),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=200, in_channels=960)),
    teacher=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmkdlayer.CifarWideResNet', depth=40, widen_factor=2),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=200, in_channels=128)),
    teacher_ckpt='checkpoints/wrn40-2_tinyimagenet.pth',
    distiller=dict(type='mmkdlayer.KDLayerDistiller', kd_layers=dict(
        inter=dict(
            module='backbone.layers.2.0', in_channels=960, teacher='backbone.layer3.0',
            decision=dict(type='mmkdlayer.SubclassDecision', num_classes=200)),
        penult=dict(
            module='backbone.layers.2', in_channels=960, teacher='backbone.layer3',
            decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=4096)))))
