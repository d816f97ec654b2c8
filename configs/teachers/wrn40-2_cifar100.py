# The teacher WRN-40-2 on CIFAR-100: a plain mmpretrain training.
# The CRD zoo has it ready: python tools/convert_teacher.py crd SRC checkpoints/wrn40-2_cifar100.pth
_base_ = [
    '../_base_/models/cifar/wrn40-2.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/runtime.py',
]
custom_hooks = []
model = _base_.wrn40_2
