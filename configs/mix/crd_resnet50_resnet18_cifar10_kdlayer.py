# Contrastive representation distillation, with letKD-2 added.
_base_ = ['./crd_resnet50_resnet18_cifar10.py', './_base_/letkd2_cifar10.py']

model = dict(distiller=_base_.letkd)
