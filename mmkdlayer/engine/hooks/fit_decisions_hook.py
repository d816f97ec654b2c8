"""Fits the teacher's decisions before the first training step."""

from __future__ import annotations

import os

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmkdlayer.engine.decisions import prepare_decisions
from mmkdlayer.registry import HOOKS


@HOOKS.register_module()
class FitDecisionsHook(Hook):
    """Makes every decision of the model ready before training.

    A decision that the config gives a file must fit the model. Any other is loaded from
    ``<out_dir>/<name>.safetensors`` if it was fitted there on the same teacher, layer and data, else it
    is fitted over the training set, with the test-time transform, and stored there.

    Args:
        out_dir: Where decisions are stored; None for ``<work_dir>/decisions``.
        seed: Seed of the fitting.
        memory_budget: Bytes that samples of features may take while fitting; None for the default.
        cache_dir: Folder for projected features while fitting; None for ``out_dir``.
    """

    # After the checkpoint is loaded (before_run) and before any hook that trains.
    priority = 'VERY_HIGH'

    def __init__(
        self,
        out_dir: str | None = None,
        seed: int = 0,
        memory_budget: int | None = None,
        cache_dir: str | None = None,
    ) -> None:
        self.out_dir = out_dir
        self.seed = seed
        self.memory_budget = memory_budget
        self.cache_dir = cache_dir

    def before_train(self, runner: Runner) -> None:
        """Fit or load the decisions."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        prepare_decisions(
            model,
            runner.cfg,
            self.out_dir or os.path.join(runner.work_dir, 'decisions'),
            seed=self.seed,
            memory_budget=self.memory_budget,
            cache_dir=self.cache_dir,
        )
