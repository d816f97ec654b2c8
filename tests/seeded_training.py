"""A training by mmengine's Runner on a few random images, for tests of hooks and algorithms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample

CLASSES = 3


@DATASETS.register_module()
class SeededImages:
    """Random images, the same every time."""

    metainfo = dict(classes=[f'class {label}' for label in range(CLASSES)])

    def __init__(self, length: int = 12, pipeline: tuple = ()) -> None:
        self.length = length

    def full_init(self) -> None:
        pass

    def __len__(self) -> int:
        return self.length

    def get_data_info(self, index: int) -> dict:
        return dict(img_path=f'{index}.png', gt_label=index % CLASSES)

    def __getitem__(self, index: int) -> dict:
        generator = torch.Generator().manual_seed(index)
        image = torch.randn(3, 16, 16, generator=generator)
        return dict(inputs=image, data_samples=DataSample().set_gt_label(index % CLASSES))


def make_config(model: dict, work: Path, **changes: Any) -> Config:
    loader = dict(
        batch_size=4,
        num_workers=0,
        dataset=dict(type='SeededImages', pipeline=()),
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    cfg = dict(
        model=dict(model, data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor')),
        work_dir=str(work),
        default_scope='mmpretrain',
        train_dataloader=loader,
        val_dataloader=loader,
        val_evaluator=dict(type='Accuracy'),
        val_cfg=dict(),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        custom_hooks=[
            dict(type='mmkdlayer.CheckWeightsHook'),
            dict(type='mmkdlayer.FitDecisionsHook'),
        ],
        randomness=dict(seed=0),
        experiment_name=work.name,
        log_level='WARNING',
    )
    cfg.update(changes)
    return Config(cfg)
