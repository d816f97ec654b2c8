# mmrazor's network under a name of its own, so that a config can put KD layers into it.
_base_ = 'mmrazor::_base_/vanilla_models/wrn16_2_cifar10.py'

wrn16_2 = _base_.pop('model')
_base_.pop('find_unused_parameters')
