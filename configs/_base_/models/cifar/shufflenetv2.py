# ShuffleNetV2 for small images, under a name of its own, so that one config can inherit two networks.
_base_ = './classifier.py'

shufflenetv2 = dict(
    _base_.model,
    backbone=dict(type='mmkdlayer.CifarShuffleNetV2'),
    head=dict(_base_.pop('model').head, in_channels=1024),
)
