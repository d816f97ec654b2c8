# The teacher ResNet-32x4 on CIFAR-100: a plain mmpretrain training.
# The CRD zoo has it ready: python tools/convert_teacher.py crd SRC checkpoints/resnet32x4_cifar100.pth
_base_ = [
    '../_base_/models/cifar/resnet32x4.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/runtime.py',
]
custom_hooks = []
model = _base_.resnet32x4
