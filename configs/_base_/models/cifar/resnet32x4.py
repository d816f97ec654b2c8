# ResNet-32x4 for small images, under a name of its own, so that one config can inherit two networks.
_base_ = './classifier.py'

resnet32x4 = dict(
    _base_.model,
    backbone=dict(type='mmkdlayer.CifarResNet', depth=32, stem_channels=32, base_channels=64),
    head=dict(_base_.pop('model').head, in_channels=256),
)
