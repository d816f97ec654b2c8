# ResNet-50 for small images, under a name of its own, so that one config can inherit two networks.
_base_ = './classifier.py'

resnet50 = dict(
    _base_.model,
    backbone=dict(type='ResNet_CIFAR', depth=50),
    head=dict(_base_.pop('model').head, in_channels=2048),
)
