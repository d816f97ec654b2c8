# Data and schedule of all runs of studies/photographs.py, and their networks.
_base_ = '../../configs/_base_/datasets/folder.py'

num_classes = 100
epochs = 6
train_dataloader = dict(batch_size=128, num_workers=1)
val_dataloader = dict(batch_size=500, num_workers=1)
test_dataloader = dict(batch_size=500, num_workers=1)
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=1, convert_to_iter_based=True)]
train_cfg = dict(type='mmkdlayer.ResumableEpochLoop', max_epochs=epochs, val_interval=3)


def _resnet(depth, channels=16):
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='mmkdlayer.CifarResNet', depth=depth,
            stem_channels=channels, base_channels=channels),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='mmpretrain.LinearClsHead', num_classes=num_classes, in_channels=4 * channels))


student = _resnet(20)
teacher = _resnet(56)
wide_by_flops = _resnet(20, 23)  # 84.6 M multiply-adds, letKD-2 has 81.3 M when folded
wide_by_parameters = _resnet(20, 29)  # 0.90 M parameters, letKD-2 has 0.91 M when folded
