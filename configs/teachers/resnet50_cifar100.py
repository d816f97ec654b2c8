# The teacher ResNet-50 on CIFAR-100: a plain mmpretrain training.
# The CRD zoo has it ready: python tools/convert_teacher.py crd SRC checkpoints/resnet50_cifar100.pth
_base_ = [
    '../_base_/models/cifar/resnet50.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/runtime.py',
]
custom_hooks = []
model = _base_.resnet50
