# mmpretrain's network under a name of its own, so that a config can put KD layers into it.
_base_ = 'mmpretrain::_base_/models/resnet18_cifar.py'

resnet18_cifar = _base_.pop('model')
