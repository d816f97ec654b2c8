# Baseline, CIFAR-100: ResNet-20 alone.
_base_ = [
    '../_base_/models/cifar/resnet20.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/runtime.py',
]
custom_hooks = []
model = _base_.resnet20
