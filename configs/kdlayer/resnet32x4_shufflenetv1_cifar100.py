# letKD-2 on CIFAR-100: ResNet-32x4 teaches ShuffleNetV1.
_base_ = [
    '../_base_/datasets/cifar100.py', '../_base_/schedules/cifar_240e.py', '../_base_/runtime.py']
optim_wrapper = dict(optimizer=dict(lr=0.01))

model = dict(
    type='mmrazor.SingleTeacherDistill',
    architecture=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmkdlayer.CifarShuffleNetV1'),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=100, in_channels=960)),
    teacher=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmkdlayer.CifarResNet', depth=32, stem_channels=32, base_channels=64),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=100, in_channels=256)),
    teacher_ckpt='checkpoints/resnet32x4_cifar100.pth',
    distiller=dict(type='mmkdlayer.KDLayerDistiller', kd_layers=dict(
        inter=dict(
            module='backbone.layers.2.0', in_channels=960, teacher='backbone.layer3.0',
            decision=dict(type='mmkdlayer.SubclassDecision', num_classes=100)),
        penult=dict(
            module='backbone.layers.2', in_channels=960, teacher='backbone.layer3',
            decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=4096)))))
