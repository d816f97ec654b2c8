"""Data loading and schedule of a generated config: as published, scaled to the batch and the epochs."""

from __future__ import annotations

from typing import Any

from .data_folder import DataFolder
from .writing import Name

#: Images up to this side are trained as CIFAR and Tiny-ImageNet are, larger ones as ImageNet is.
SMALL = 64
#: Networks that the literature trains at a lower rate on small images.
SLOW_STUDENTS = ('mobilenet', 'shufflenet')


def data_config(
    data: DataFolder, size: int, batch_size: int, normalisation: dict
) -> dict[str, Any]:
    """Preprocessor, loaders and evaluators for images of ``size`` x ``size`` pixels."""
    if size <= SMALL:
        train = [
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(size, size)),
            dict(type='RandomCrop', crop_size=size, padding=size // 8),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ]
        test = [
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(size, size)),
            dict(type='PackInputs'),
        ]
    else:
        train = [
            dict(type='LoadImageFromFile'),
            dict(type='RandomResizedCrop', scale=size, backend='pillow'),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ]
        test = [
            dict(type='LoadImageFromFile'),
            dict(type='ResizeEdge', scale=round(size * 8 / 7), edge='short', backend='pillow'),
            dict(type='CenterCrop', crop_size=size),
            dict(type='PackInputs'),
        ]

    def loader(split: str, pipeline: list, shuffle: bool) -> dict[str, Any]:
        return dict(
            batch_size=batch_size,
            num_workers=4,
            persistent_workers=True,
            dataset=dict(
                type='CustomDataset', data_root=data.root, data_prefix=split, pipeline=pipeline
            ),
            sampler=dict(type='DefaultSampler', shuffle=shuffle),
        )

    evaluator = dict(type='Accuracy', topk=(1, 5) if len(data.classes) > 5 else (1,))
    return dict(
        data_preprocessor=dict(
            type='mmpretrain.ClsDataPreprocessor',
            num_classes=len(data.classes),
            **normalisation,
        ),
        train_dataloader=loader('train', train, True),
        val_dataloader=loader(data.val, test, False),
        val_evaluator=evaluator,
        test_dataloader=Name('val_dataloader')
        if data.test == data.val
        else loader(data.test, test, False),
        test_evaluator=Name('val_evaluator'),
    )


def default_batch_size(size: int) -> int:
    """Images a process and step."""
    return 64 if size <= SMALL else 32


def schedule_config(
    size: int, batch_size: int, epochs: int | None, rate: float | None, student: str
) -> dict[str, Any]:
    """Optimiser and schedule of the paper (letKD, supplementary material).

    Args:
        size: Side of the images.
        batch_size: Images a step; the learning rate is scaled to it.
        epochs: None for the published number.
        rate: Learning rate; None for the published one.
        student: Type of the student's backbone.
    """
    if size <= SMALL:
        published, shares, decay = 240, (150 / 240, 180 / 240, 210 / 240), 5e-4
        slow = student.rsplit('.', 1)[-1].lower().replace('cifar', '').startswith(SLOW_STUDENTS)
        base = (0.01 if slow else 0.05) / 64
    else:
        published, shares, decay = 100, (0.3, 0.6, 0.9), 1e-4
        base = 0.1 / 256
    epochs = epochs or published
    milestones = sorted({round(share * epochs) for share in shares} - {0, epochs})
    optimizer = dict(
        type='SGD',
        lr=rate if rate is not None else float(f'{base * batch_size:.6g}'),
        momentum=0.9,
        nesterov=True,
        weight_decay=decay,
    )
    return dict(
        optim_wrapper=dict(optimizer=optimizer),
        param_scheduler=dict(type='MultiStepLR', by_epoch=True, milestones=milestones, gamma=0.1),
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        val_cfg=dict(),
        test_cfg=dict(),
        auto_scale_lr=dict(base_batch_size=batch_size),
    )
