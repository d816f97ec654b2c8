"""What is run: tiny data, a teacher, a config, and the command lines of the project."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

CLASSES, TRAIN, VAL = 3, 8, 4  # images of each class
EPOCHS = 3

#: Deterministic but for what fitting and resuming must get right: no random augmentation.
CONFIG = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['mmkdlayer'], allow_failed_imports=False)


def network(channels):
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='mmpretrain.ResNet_CIFAR', depth=18, num_stages=3, strides=(1, 2, 2),
            dilations=(1, 1, 1), out_indices=(2,), stem_channels=channels, base_channels=channels),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=4 * channels,
                  loss=dict(type='mmpretrain.CrossEntropyLoss')))


preprocessor = dict(
    type='mmpretrain.ClsDataPreprocessor', num_classes=3, mean=[128.0] * 3, std=[64.0] * 3, to_rgb=True)
model = dict(
    type='mmrazor.SingleTeacherDistill', data_preprocessor=preprocessor,
    architecture=network(4), teacher=network(6), teacher_ckpt='teacher.pth',
    distiller=dict(type='mmkdlayer.KDLayerDistiller', kd_layers=dict(
        inter=dict(
            module='backbone.layer3.0', in_channels=16, teacher='backbone.layer3.0',
            decision=dict(type='mmkdlayer.SubclassDecision', num_classes=3, num_subclasses=2,
                          num_components=2)),
        penult=dict(
            module='backbone.layer3', in_channels=16, teacher='backbone.layer3',
            decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=5)))))
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]


def loader(split, shuffle):
    return dict(
        batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=shuffle),
        dataset=dict(type='CustomDataset', data_root='data', data_prefix=split, pipeline=pipeline))


train_dataloader = loader('train', True)
val_dataloader = test_dataloader = loader('val', False)
val_evaluator = test_evaluator = dict(type='Accuracy', topk=(1,))
train_cfg = dict(by_epoch=True, max_epochs=3, val_interval=1)
val_cfg = test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001))
param_scheduler = dict(type='MultiStepLR', milestones=[2], gamma=0.1, by_epoch=True)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=2),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1, save_best='accuracy/top1'))
custom_hooks = [
    dict(type='EMAHook', momentum=0.1),
    dict(type='mmkdlayer.CheckWeightsHook'),
    dict(type='mmkdlayer.FitDecisionsHook', checkpoint_interval=0.0, streaming_passes=1),
    dict(type='mmkdlayer.PreemptionHook')]
randomness = dict(seed=0)
"""

#: The views that are stored are random.
STORED_CONFIG = """
_base_ = './config.py'
train_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImageFromFile'), dict(type='RandomCrop', crop_size=16, padding=4),
    dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')]))
"""
_STORE = [
    *('store_decisions.py', 'stored.py', '--work-dir', 'work', '--out', 'work/store'),
    *('--views', '3', '--logits', '2'),
]
_LAUNCHED = ['--launcher', 'pytorch', '--dist-timeout', '40']

#: Command lines, run in the folder of the job. Training is always started as after an interruption.
COMMANDS = {
    'train': ['train.py', 'config.py', '--work-dir', 'work', '--resume'],
    'train with workers': [
        *('train.py', 'config.py', '--work-dir', 'work', '--resume', '--cfg-options'),
        *('train_dataloader.num_workers=1', 'val_dataloader.num_workers=1'),
    ],
    'train on two ranks': [
        *('train.py', 'config.py', '--work-dir', 'work', '--resume'),
        *_LAUNCHED,
    ],
    'store': _STORE,
    'store with workers': [*_STORE, '--cfg-options', 'train_dataloader.num_workers=2'],
    'store on two ranks': [*_STORE, *_LAUNCHED],
    'store on three ranks': [*_STORE, *_LAUNCHED],
    'fit': ['fit_decisions.py', 'config.py', '--work-dir', 'work', '--out', 'work/decisions'],
    'export': ['export_student.py', 'config.py', f'work/epoch_{EPOCHS}.pth', '--out', 'student'],
    'test': [
        *('test.py', 'config.py', f'work/epoch_{EPOCHS}.pth'),
        *('--work-dir', 'tested', '--out', 'metrics.json'),
    ],
    'test the student': [
        *('test.py', 'student/student.py', 'student/student.pth'),
        *('--work-dir', 'tested', '--out', 'metrics.json'),
    ],
}
#: Processes of the commands with a launcher.
RANKS = {'train on two ranks': 2, 'store on two ranks': 2, 'store on three ranks': 3}


def write_job(folder: Path) -> None:
    """Write images, config and the teacher's weights into a new folder."""
    from mmengine.config import Config
    from mmengine.registry import MODELS

    rng = np.random.default_rng(0)
    for split, count in (('train', TRAIN), ('val', VAL)):
        for label in range(CLASSES):
            target = folder / 'data' / split / f'class_{label}'
            target.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 150, (16, 16, 3), dtype=np.uint8)
                pixels[..., label] += 100
                Image.fromarray(pixels).save(target / f'{index}.png')
    (folder / 'config.py').write_text(CONFIG)
    (folder / 'stored.py').write_text(STORED_CONFIG)
    torch.manual_seed(0)
    teacher = MODELS.build(Config.fromstring(CONFIG, '.py').model.teacher)
    torch.save(dict(state_dict=teacher.state_dict()), folder / 'teacher.pth')
