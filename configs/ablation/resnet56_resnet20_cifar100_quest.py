# Baseline, CIFAR-100, ResNet-56 teaches ResNet-20: QUEST (ECCV 2020), which is letKD-1 with alpha 0.
_base_ = './resnet56_resnet20_cifar100_penult0.py'
