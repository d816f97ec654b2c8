# MobileNetV1: mmpretrain's classifier with another backbone.
_base_ = 'mmpretrain::_base_/models/mobilenet_v2_1x.py'

mobilenetv1 = dict(
    _base_.model,
    backbone=dict(type='mmkdlayer.MobileNetV1'),
    head=dict(_base_.pop('model').head, in_channels=1024),
)
