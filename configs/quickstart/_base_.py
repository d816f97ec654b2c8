# The quickstart's data, networks and schedule. The images are scikit-learn's digits as PNG files of
# 32x32 (tools/quickstart.py writes them); the data root comes from --data-root.
_base_ = ['../_base_/datasets/folder.py', '../_base_/runtime.py']


def _resnet(depth, channels):
    """Three stages, on a quarter of the positions from the first one on."""
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='mmpretrain.ResNet_CIFAR', depth=depth,
            num_stages=3, strides=(2, 2, 2), dilations=(1, 1, 1), out_indices=(2,),
            stem_channels=channels, base_channels=channels),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=4 * channels))


teacher = _resnet(34, 16)  # 3-4-6 blocks of 16-32-64 channels
student = _resnet(18, 4)  # 2-2-2 blocks of 4-8-16 channels

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=32, num_workers=0, persistent_workers=False, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=100, num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4))
# Down to 0 at the end of the last epoch, train_cfg.max_epochs.
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)
train_cfg = dict(type='mmkdlayer.ResumableEpochLoop', max_epochs=60, val_interval=20)
default_hooks = dict(
    checkpoint=dict(interval=20, max_keep_ckpts=2, save_best=None), logger=dict(interval=13))
