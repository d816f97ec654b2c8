"""A distilled student's config and checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, NamedTuple

import pytest
import torch
from mmengine.config import Config

CLASSES = ('cat', 'dog', 'owl')


class Training(NamedTuple):
    """What training leaves: its config, its last checkpoint and its model."""

    cfg: Config
    checkpoint: Path
    model: torch.nn.Module


def training_config(model: dict, **more: Any) -> Config:
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=16),
        dict(type='PackInputs'),
    ]
    return Config(
        dict(
            default_scope='mmpretrain',
            model=model,
            train_dataloader=dict(batch_size=4, dataset=dict(type='CustomDataset')),
            test_dataloader=dict(
                batch_size=4,
                num_workers=0,
                dataset=dict(type='CustomDataset', data_root='nowhere', pipeline=pipeline),
            ),
            test_evaluator=dict(type='Accuracy', topk=(1,)),
            test_cfg=dict(),
            train_cfg=dict(by_epoch=True, max_epochs=2),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            custom_hooks=[dict(type='mmkdlayer.FitDecisionsHook')],
            **more,
        )
    )


@pytest.fixture
def make_config() -> Callable[..., Config]:
    return training_config


@pytest.fixture
def training(tmp_path, make_distillation, distillation_config, make_batch) -> Training:
    model = make_distillation(seed=3)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.2)
    for _ in range(2):
        optimizer.zero_grad()
        losses = model(*make_batch(), mode='loss')
        sum(value for name, value in losses.items() if 'loss' in name).backward()
        optimizer.step()
    model.eval()
    meta = dict(dataset_meta=dict(classes=CLASSES), epoch=2, iter=2, experiment_name='secret')
    checkpoint = tmp_path / 'epoch_2.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=meta, optimizer={}), checkpoint)
    return Training(training_config(distillation_config()), checkpoint, model)
