# The teacher ResNet-56 on Tiny-ImageNet: a plain mmpretrain training.
_base_ = [
    '../_base_/models/cifar/resnet56.py',
    '../_base_/datasets/tinyimagenet.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/runtime.py',
]
custom_hooks = []
model = dict(_base_.resnet56, head=dict(_base_.resnet56.head, num_classes=200))
