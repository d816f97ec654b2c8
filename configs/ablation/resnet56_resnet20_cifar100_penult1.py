# Ablation, CIFAR-100, ResNet-56 teaches ResNet-20: penultimate layer only, alpha 1 (letKD-1).
_base_ = '../kdlayer/resnet56_resnet20_cifar100_letkd1.py'
