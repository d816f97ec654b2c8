# The teacher ResNet-56 on CIFAR-100: a plain mmpretrain training.
# The CRD zoo has it ready: python tools/convert_teacher.py crd SRC checkpoints/resnet56_cifar100.pth
_base_ = [
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/plain_runtime.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkdlayer.CifarResNet', depth=56),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=100, in_channels=64))
