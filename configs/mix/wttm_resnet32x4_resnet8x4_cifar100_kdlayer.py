# Weighted transformed teacher matching (WTTM, ICLR 2024), with letKD-2. gamma and weight are the
# authors' for another pair on CIFAR-100; for this one, and beside KD layers whose losses have weight
# 1, they are chosen here.
_base_ = ['../kdlayer/resnet32x4_resnet8x4_cifar100.py', './_base_/wttm.py']

model = dict(distiller=_base_.wttm)
