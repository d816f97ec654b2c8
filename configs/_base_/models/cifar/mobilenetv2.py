# MobileNetV2 for small images, under a name of its own, so that one config can inherit two networks.
_base_ = './classifier.py'

mobilenetv2 = dict(
    _base_.model,
    backbone=dict(type='mmkdlayer.CifarMobileNetV2', widen_factor=0.5),
    head=dict(_base_.pop('model').head, in_channels=1280),
)
