# mmpretrain's network under a name of its own, so that one config can inherit two networks.
_base_ = 'mmpretrain::_base_/models/mobilenet_v2_1x.py'

mobilenetv2 = _base_.pop('model')
