# WRN-16-2 for small images, under a name of its own, so that one config can inherit two networks.
_base_ = './classifier.py'

wrn16_2 = dict(
    _base_.model,
    backbone=dict(type='mmkdlayer.CifarWideResNet', depth=16, widen_factor=2),
    head=dict(_base_.pop('model').head, in_channels=128),
)
