"""Compares a training with the stored decisions that it reads, takes their tables, and moves them."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmkdlayer.models.labels import move_stored
from mmkdlayer.models.wrappers import unwrap_model
from mmkdlayer.registry import HOOKS

from .checks import check_stored


@HOOKS.register_module()
class StoredDecisionsHook(Hook):
    """Stops a training on stored decisions that are not of its images, views or layers.

    Before the first step the files' checksums are compared, and what they are of; some views are
    rendered. Then the decisions get the tables that were stored. Before each step, what is stored of the
    batch is moved to the student's device.
    """

    # Before CheckDataHook, which reads an image.
    priority = 'HIGHEST'

    def before_train(self, runner: Runner) -> None:
        """Check, and load the tables; see :func:`check_stored` for the errors."""
        loop: Any = runner.train_loop
        dataset_cfg = runner.cfg.train_dataloader.dataset.get('dataset')
        check_stored(unwrap_model(runner.model), loop.dataloader, dataset_cfg)

    def before_train_epoch(self, runner: Runner) -> None:
        """Choose the views of the epoch, also where the sampler is not told of it."""
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            dataset: Any = runner.train_loop.dataloader.dataset
            dataset.epoch.fill_(runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Move what is stored of the batch; see :func:`move_stored`."""
        samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
        move_stored(samples, next(runner.model.parameters()).device)
