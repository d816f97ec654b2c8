# mmpretrain's network under a name of its own, so that one config can inherit two networks.
_base_ = 'mmpretrain::_base_/models/resnet50.py'

resnet50 = _base_.pop('model')
