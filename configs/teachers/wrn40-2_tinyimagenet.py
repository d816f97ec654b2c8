# The teacher WRN-40-2 on Tiny-ImageNet: a plain mmpretrain training.
_base_ = [
    '../_base_/models/cifar/wrn40-2.py',
    '../_base_/datasets/tinyimagenet.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/runtime.py',
]
custom_hooks = []
model = dict(_base_.wrn40_2, head=dict(_base_.wrn40_2.head, num_classes=200))
