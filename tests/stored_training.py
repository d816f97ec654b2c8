"""A tiny distillation on images that are drawn anew each time, and stores for it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch
from conftest import build_distillation, tiny_distillation
from line_training import QuickRunner
from made_up_store import write_store
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from seeded_training import SeededImages, make_config

from mmkdlayer.models.decisions import TeacherDecision
from mmkdlayer.models.wrappers import unwrap_model
from mmkdlayer.stored import use_store

#: All centroids of the tiny distillation: nothing is left out.
ALL = 5


@DATASETS.register_module()
class DrawnImages(SeededImages):
    """Seeded images with noise of torch's global generator; notes what was asked for."""

    def __getitem__(self, index: int) -> dict:
        found = super().__getitem__(index)
        found['data_samples'].set_field(index, 'index')
        found['inputs'] = found['inputs'] + torch.randn(3, 16, 16)
        return found

    def get_cat_ids(self, index: int) -> list[int]:
        return [0 if index == 0 else 1]


@HOOKS.register_module()
class Recorder(Hook):
    """Begins with the same weights each time; keeps each step's losses, images and first pixels."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []

    def before_train(self, runner: Runner) -> None:
        twin, model = build_distillation(), unwrap_model(runner.model)
        if not runner._resume:
            model.student.load_state_dict(twin.student.state_dict())
        if list(model.teacher.parameters()):
            model.teacher.load_state_dict(twin.teacher.state_dict())
            for name, loss in model.distiller.distill_losses.items():
                if not hasattr(loss, 'decision'):
                    continue
                loss.decision.copy_from(twin.distiller.distill_losses[name].decision)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        images = [sample.index for sample in data_batch['data_samples']]
        losses = {name: float(value.detach()) for name, value in outputs.items() if 'loss' in name}
        pixels = [float(image[0, 0, 0]) for image in data_batch['inputs']]
        self.steps.append(dict(losses, images=images, pixels=pixels))


@HOOKS.register_module()
class Interrupt(Hook):
    """The process sends itself a signal after an iteration."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        if runner.iter == self.iteration:
            os.kill(os.getpid(), signal.SIGUSR1)


def drawn_config(work: Path, **changes: Any) -> Config:
    cfg = make_config(tiny_distillation(), work)
    cfg.train_dataloader.dataset = dict(type='DrawnImages', pipeline=())
    cfg.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
    cfg.train_dataloader.collate_fn = dict(type='mmkdlayer.stack_images')
    cfg.train_cfg = dict(type='mmkdlayer.ResumableEpochLoop', max_epochs=3)
    cfg.custom_hooks = [*cfg.custom_hooks, dict(type='Recorder')]
    cfg.default_hooks = dict(checkpoint=None, logger=None)
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.merge_from_dict(changes)
    return cfg


def with_logit_kd(cfg: Config) -> Config:
    """Knowledge distillation on logits beside the KD layers, as mmrazor has it."""
    recorder = dict(fc=dict(type='ModuleOutputs', source='head.fc'))
    reads = {f'preds_{name}': dict(recorder='fc', from_student=name == 'S') for name in 'ST'}
    cfg.model.distiller.update(
        student_recorders=recorder,
        teacher_recorders=recorder,
        distill_losses=dict(loss_kl=dict(type='mmrazor.KLDivergence', tau=2, loss_weight=5)),
        loss_forward_mappings=dict(loss_kl=reads),
    )
    return cfg


def decisions_and_teacher() -> tuple[dict[str, TeacherDecision], Any]:
    """Made-up decisions, and what gives the features of the teacher for a view."""
    model = build_distillation()
    mappings = model.distiller.loss_forward_mappings

    def features(image: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.no_grad(), model.distiller.teacher_recorders:
            logits = model.teacher(image[None], mode='tensor')
        record = model.distiller.get_record
        found = {n: record(**mappings[f'loss_{n}']['teacher_feature']) for n in decisions}
        return dict(found, logits=logits)

    decisions = {name: layer.decision for name, layer in model.distiller.kd_layers.items()}
    return decisions, features


def store_of(folder: Path, cfg: Config, **options: Any) -> Path:
    init_default_scope('mmpretrain')
    dataset_cfg = cfg.train_dataloader.dataset
    dataset = DATASETS.build(dataset_cfg)
    while hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    options = dict(dict(kept=ALL, views=2), **options)
    return write_store(folder, dataset, dataset_cfg, *decisions_and_teacher(), **options)


def train(cfg: Config, store: Path | None = None, **resuming: Any) -> tuple[Runner, list[dict]]:
    """Train, on a store if there is one, from the same weights each time; the steps of it."""
    if store is not None:
        use_store(cfg, str(store))
    cfg.experiment_name = f'{cfg.work_dir}{store}{resuming}'.replace('/', '_')
    cfg.update(resuming)
    runner = QuickRunner.from_cfg(cfg)
    runner.train()
    return runner, next(hook.steps for hook in runner.hooks if isinstance(hook, Recorder))
