# letKD-2 on CIFAR-100: ResNet-50 teaches MobileNetV2.
_base_ = [
    '../_base_/datasets/cifar100.py', '../_base_/schedules/cifar_240e.py', '../_base_/runtime.py']
optim_wrapper = dict(optimizer=dict(lr=0.01))

model = dict(
    type='mmrazor.SingleTeacherDistill',
    architecture=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmkdlayer.CifarMobileNetV2', widen_factor=0.5),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=100, in_channels=1280)),
    teacher=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.ResNet_CIFAR', depth=50),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=100, in_channels=2048)),
    teacher_ckpt='checkpoints/resnet50_cifar100.pth',
    distiller=dict(type='mmkdlayer.KDLayerDistiller', kd_layers=dict(
        inter=dict(
            module='backbone.layer6.0', in_channels=80, alpha=0.2, teacher='backbone.layer4.0',
            decision=dict(type='mmkdlayer.SubclassDecision', num_classes=100)),
        penult=dict(
            module='backbone.conv2', in_channels=1280, alpha=0.1, teacher='backbone.layer4',
            decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=4096)))))
