# ResNet-20 for small images, under a name of its own, so that one config can inherit two networks.
_base_ = './classifier.py'

resnet20 = dict(
    _base_.model,
    backbone=dict(type='mmkdlayer.CifarResNet', depth=20),
    head=dict(_base_.pop('model').head, in_channels=64),
)
