# letKD-2 on CIFAR-100: ResNet-56 teaches ResNet-20.
_base_ = [
    '../_base_/datasets/cifar100.py', '../_base_/schedules/cifar_240e.py', '../_base_/runtime.py']

model = dict(
    type='mmrazor.SingleTeacherDistill',
    architecture=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmkdlayer.CifarResNet', depth=20),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=100, in_channels=64)),
    teacher=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmkdlayer.CifarResNet', depth=56),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=100, in_channels=64)),
    teacher_ckpt='checkpoints/resnet56_cifar100.pth',
    distiller=dict(type='mmkdlayer.KDLayerDistiller', kd_layers=dict(
        inter=dict(
            module='backbone.layer3.0', in_channels=64, teacher='backbone.layer3.0',
            decision=dict(type='mmkdlayer.SubclassDecision', num_classes=100)),
        penult=dict(
            module='backbone.layer3', in_channels=64, teacher='backbone.layer3',
            decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=4096)))))
