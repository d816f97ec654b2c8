"""Stops a training that its data or its validation would end later."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmkdlayer.engine.data_checks import check_training_data
from mmkdlayer.engine.trial_evaluation import check_evaluation
from mmkdlayer.models.wrappers import unwrap_model
from mmkdlayer.registry import HOOKS


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Compares the training set with the network that is trained, before the first step.

    Checked are the number of classes of the head, labels that it needs, and that no batch norm is given
    a single value by a last batch of one image. A head with more classes is allowed, with a warning.
    The validation is tried on some images.
    """

    # Before FitDecisionsHook, which takes long.
    priority = 'HIGHEST'

    def before_train(self, runner: Runner) -> None:
        """Check; see :func:`check_training_data` and :func:`check_evaluation` for the errors."""
        loop: Any = runner.train_loop
        for warning in check_training_data(unwrap_model(runner.model), loop.dataloader):
            runner.logger.warning(warning)
        check_evaluation(runner)
