# Any folder of classes: ROOT/train/<class>/*.jpg and ROOT/test/<class>/*.jpg. The classes are the
# folders of train; images are resized to squares. The commands take both variables from the command line
# (--data-root ROOT --cfg-options image_size=64) or from a config based on this one; code takes them with
# mmkdlayer.config_variables.read_config.
_base_ = []  # says to mmengine that this is a plain config, in which imports are allowed
import os  # noqa: E402

from mmkdlayer.config_variables import config_variable  # noqa: E402

data_root = config_variable('data_root', 'data/folder')
image_size = config_variable('image_size', 32)

_train = os.path.join(os.path.expanduser(data_root), 'train')
classes = ['class 0', 'class 1']  # stand in where there are no data, with which the commands stop
if os.path.isdir(_train):
    classes = sorted(entry.name for entry in os.scandir(_train) if entry.is_dir())
# What mmpretrain reads by itself, and what its loader can read as well.
extensions = ['.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif', '.tiff', '.webp']

data_preprocessor = dict(
    type='mmpretrain.ClsDataPreprocessor',
    num_classes=len(classes),
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(image_size, image_size)),
    dict(type='RandomCrop', crop_size=image_size, padding=image_size // 8),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(image_size, image_size)),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(
        type='CustomDataset',
        data_root=data_root,
        data_prefix='train',
        extensions=extensions,
        pipeline=train_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(
        type='CustomDataset',
        data_root=data_root,
        data_prefix='test',
        extensions=extensions,
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
