# Ablation, CIFAR-100, ResNet-56 teaches ResNet-20: both layers, alpha 1 at each (letKD-2).
_base_ = '../kdlayer/resnet56_resnet20_cifar100.py'
