# The teacher WRN-40-2 on Tiny-ImageNet: a plain mmpretrain training.
_base_ = [
    '../_base_/datasets/tinyimagenet.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/plain_runtime.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkdlayer.CifarWideResNet', depth=40, widen_factor=2),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=200, in_channels=128))
