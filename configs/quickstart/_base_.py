# The quickstart's data, networks and schedule. The images are scikit-learn's digits as PNG files of
# 32x32 (tools/quickstart.py writes them); the data root comes from --data-root.
_base_ = [
    '../_base_/models/small_resnets.py',
    '../_base_/datasets/folder.py',
    '../_base_/runtime.py',
]


def _resnet(network, channels):
    """The network on a quarter of the positions, with this many channels in its first stage."""
    backbone = dict(
        network.backbone, strides=(2, 2, 2), stem_channels=channels, base_channels=channels
    )
    return dict(network, backbone=backbone, head=dict(network.head, in_channels=4 * channels))


teacher = _resnet(_base_.small_teacher, 16)  # 3-4-6 blocks of 16-32-64 channels
student = _resnet(_base_.small_student, 4)  # 2-2-2 blocks of 4-8-16 channels

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=32, num_workers=0, persistent_workers=False, dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(batch_size=100, num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
)
param_scheduler = dict(
    type='CosineAnnealingLR', by_epoch=True, T_max=60, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=60, val_interval=20)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(
    checkpoint=dict(interval=20, max_keep_ckpts=2, save_best=None), logger=dict(interval=13)
)
