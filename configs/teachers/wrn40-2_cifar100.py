# The teacher WRN-40-2 on CIFAR-100: a plain mmpretrain training.
# The CRD zoo has it ready: python tools/convert_teacher.py crd SRC checkpoints/wrn40-2_cifar100.pth
_base_ = [
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/plain_runtime.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkdlayer.CifarWideResNet', depth=40, widen_factor=2),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=100, in_channels=128))
