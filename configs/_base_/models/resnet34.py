# mmpretrain's network under a name of its own, so that one config can inherit two networks.
_base_ = 'mmpretrain::_base_/models/resnet34.py'

resnet34 = _base_.pop('model')
