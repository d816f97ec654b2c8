"""Fits the teacher's decisions before the first training step."""

from __future__ import annotations

import os
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmkdlayer.engine.fit_decisions import FitOptions
from mmkdlayer.engine.prepare_decisions import prepare_decisions
from mmkdlayer.models.wrappers import unwrap_model
from mmkdlayer.registry import HOOKS


@HOOKS.register_module()
class FitDecisionsHook(Hook):
    """Makes every decision of the model ready before training.

    A decision that the config gives a file must fit the model. Any other is loaded from
    ``<out_dir>/<name>.safetensors`` if it was fitted there on the same teacher, layer and data, else it
    is fitted over the training set, with the test-time transform, and stored there.

    Args:
        out_dir: Where decisions are stored; None for ``<work_dir>/decisions``.
        **options: How to fit, see :class:`~mmkdlayer.engine.fit_decisions.FitOptions`: ``seed``,
            ``memory_budget``, ``iterations``, ``streaming_passes``, ``cache_dir``,
            ``checkpoint_interval``, ``small_classes``, ``quality_images``.
    """

    # After the checkpoint is loaded (before_run) and before any hook that trains.
    priority = 'VERY_HIGH'

    def __init__(self, out_dir: str | None = None, **options: Any) -> None:
        self.out_dir = out_dir
        self.options = FitOptions(**options)

    def folder(self, work_dir: str) -> str:
        """Where decisions are stored by a run with this work dir."""
        return self.out_dir or os.path.join(work_dir, 'decisions')

    def before_train(self, runner: Runner) -> None:
        """Fit or load the decisions."""
        model, out_dir = unwrap_model(runner.model), self.folder(runner.work_dir)
        prepare_decisions(model, runner.cfg, out_dir, self.options)
