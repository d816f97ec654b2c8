# Any folder of classes: ROOT/train/<class>/*.jpg and ROOT/test/<class>/*.jpg (or png).
# ROOT comes from --data-root (or the environment variable DATA_ROOT). The classes are the folders.
# Images are resized to squares of IMAGE_SIZE (environment variable) pixels, 32 unless it is set.
_base_ = []  # says to mmengine that this is a plain config, in which imports are allowed
import os  # noqa: E402

data_root = os.environ.get('DATA_ROOT', 'data/folder')
_train = os.path.join(data_root, 'train')
needs_data_root = True  # the commands stop where it is not there; the classes below stand in
classes = ['class 0', 'class 1']
if os.path.isdir(_train):
    classes = sorted(entry.name for entry in os.scandir(_train) if entry.is_dir())
    classes = [name for name in classes if not name.startswith('.')]
image_size = int(os.environ.get('IMAGE_SIZE', 32))

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
        classes=classes,
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
        classes=classes,
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
