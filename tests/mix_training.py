"""Recipes of mmrazor made small: two steps and a validation on four random images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from filled_decisions import fill_decisions
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample
from torch import nn

from mmkdlayer.models import CentroidDecision, TeacherDecisionLoss
from mmkdlayer.type_names import type_name

IMAGES = 4


@DATASETS.register_module()
class MixImages:
    """Four random images with the first classes."""

    def __init__(self, classes: int, side: int, pipeline: list) -> None:
        self.metainfo = dict(classes=[str(label) for label in range(classes)])
        self.side = side

    def full_init(self) -> None:
        pass

    def __len__(self) -> int:
        return IMAGES

    def get_data_info(self, index: int) -> dict:
        return dict(img_path=f'{index}.png', gt_label=index)

    def __getitem__(self, index: int) -> dict:
        generator = torch.Generator().manual_seed(index)
        shape = (3, self.side, self.side)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        sample = DataSample().set_gt_label(index)
        others = torch.randint(0, IMAGES, (6,), generator=generator)
        sample.set_data(dict(sample_idx=torch.tensor(index), contrast_sample_idxs=others))
        return dict(inputs=pixels, data_samples=sample)


class Launched(nn.Module):
    """What a launcher puts around the generator: mmrazor asks for ``generator.module``.

    Its noise is on the host, and goes to the module's device here.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, noise: torch.Tensor, *args: Any) -> torch.Tensor:
        return self.module(noise.to(next(self.module.parameters()).device), *args)


def load_offline(path: Path) -> Config:
    """A config without what needs a network."""
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    cfg.model.pop('init_cfg', None)
    if 'teacher_ckpt' in cfg.model:
        cfg.model.teacher_ckpt = None
    head = cfg.model.get('architecture', {}).get('head')
    if head:
        head.pop('init_cfg', None)
    for teacher in cfg.model.get('teachers', {}).values():
        teacher.pop('ckpt_path')
    return cfg


def side_of(classes: int) -> int:
    """Images are small, for ImageNet's networks too, since any size tells the same here."""
    return 64 if classes == 1000 else 32


def shrink(cfg: Config, classes: int, work: Path) -> None:
    """Four images, two steps of two; the networks stay as they are."""
    data = dict(
        type='MixImages',
        _scope_='mmpretrain',
        classes=classes,
        side=side_of(classes),
        pipeline=[],
    )
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[key] = dict(
            batch_size=2,
            num_workers=0,
            dataset=data,
            sampler=dict(type='DefaultSampler', shuffle=False),
        )
    by_epoch = cfg.train_cfg.get('by_epoch', True)
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1)
    if not by_epoch:
        cfg.train_cfg = dict(by_epoch=False, max_iters=2, val_interval=2)
    cfg.param_scheduler = None  # its steps are longer than this training
    cfg.default_hooks.pop('checkpoint')
    cfg.work_dir, cfg.experiment_name, cfg.log_level = str(work), work.name, 'ERROR'
    for hook in cfg.get('custom_hooks', []):
        if type_name(hook.type) == 'KDMetricsHook':
            hook.interval = 1
    losses = cfg.model.distiller.get('distill_losses', {})
    if 'loss_crd' in losses:  # as many images as there are
        losses.loss_crd.update(neg_num=5, sample_n=IMAGES)
    if 'generator' in cfg.model and 'loss_penult' in losses:
        file = work / 'penult.safetensors'
        CentroidDecision.from_tables(torch.randn(4096, 512)).save(file)
        losses.loss_penult.decision.file = str(file)


def train_two_steps(cfg: Config, classes: int, work: Path) -> tuple[Runner, set[str]]:
    """Train two steps and validate.

    Returns:
        The runner, and the names of the parameters that changed.
    """
    shrink(cfg, classes, work)
    runner = Runner.from_cfg(cfg)
    model = runner.model
    if hasattr(model, 'generator'):
        model.generator = Launched(model.generator)
    else:
        fill_decisions(model, torch.randn(2, 3, side_of(classes), side_of(classes)))
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    runner.train()

    scalars = {key: log.data[0] for key, log in runner.message_hub.log_scalars.items()}
    for loss in model.distiller.loss_forward_mappings:
        assert len(scalars[f'train/distill.{loss}']) == 2
    for name, loss in model.distiller.distill_losses.items():
        if isinstance(loss, TeacherDecisionLoss):
            assert len(scalars[f'train/kd/{name[5:]}/agreement']) == 2
            assert len(scalars[f'train/kd/{name[5:]}/dead_templates']) == 2
    for key, values in scalars.items():
        assert np.isfinite(values).all() or key.endswith('time'), key
    assert [key for key in scalars if 'accuracy' in key]
    after = dict(model.named_parameters())
    return runner, {n for n, p in before.items() if not torch.equal(p, after[n])}


def changed_layers(changed: set[str]) -> set[str]:
    """The KD layers among changed parameters."""
    return {name.split('.')[2] for name in changed if '.kd_layers.' in name}
