"""Stops a training whose loss or weights are NaN or infinite, before it saves them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmkdlayer.checkpoints import check_values
from mmkdlayer.engine.loops import ends_epoch
from mmkdlayer.errors import CheckpointError, TrainingError
from mmkdlayer.registry import HOOKS

CAUSES = (
    'Usual causes: a learning rate that is too high (lower optim_wrapper.optimizer.lr, or add '
    'clip_grad), float16 (use bfloat16, or leave --amp out), a teacher checkpoint or images with such '
    'values.'
)


@HOOKS.register_module()
class CheckFiniteHook(Hook):
    """Stops a training with a loss that is NaN or infinite, and saves no such weights.

    The losses of every ``interval``-th iteration are looked at, and of the last one of each epoch; the
    others cost nothing. Whatever is saved is looked at too, so the checkpoints that are there stay
    good. With loss scaling (mixed precision), which skips steps that overflow, two in a row are needed.

    Args:
        interval: Iterations between two that are looked at.
    """

    # After LoggerHook (BELOW_NORMAL), whose line has the numbers; before CheckpointHook (VERY_LOW).
    priority = 'LOW'

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval
        self._doubted = False  # whether the last look found one

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Look at the losses.

        Raises:
            TrainingError: One is NaN or infinite, on any rank; on all ranks.
        """
        if not (ends_epoch(runner, batch_idx) or self.every_n_train_iters(runner, self.interval)):
            return
        phrases = []
        for rank, found in enumerate(all_gather_object(bad_losses(outputs or {}))):
            phrases += [f'{phrase} of process {rank}' if rank else phrase for phrase in found]
        forgiven = not self._doubted and hasattr(runner.optim_wrapper, 'loss_scaler')
        self._doubted = bool(phrases)
        if not phrases:
            return
        text = (
            f'{", ".join(phrases)} after iteration {runner.iter + 1}, in epoch {runner.epoch + 1}'
        )
        if forgiven:
            runner.logger.warning(f'{text}: mixed precision may skip this step.')
            return
        raise TrainingError(
            f'{text}: training stops. Checkpoints in {runner.work_dir} are from before. {CAUSES}'
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Look at what is about to be saved.

        Raises:
            TrainingError: Weights are NaN or infinite.
        """
        state = checkpoint.get('state_dict', {})
        numbers = {
            name: value
            for name, value in state.items()
            if isinstance(value, Tensor) and value.is_floating_point()
        }
        try:
            check_values(numbers, f'The student after iteration {checkpoint["meta"]["iter"]}')
        except CheckpointError as error:
            raise TrainingError(
                f'{error} Training stops, and these weights are not saved: checkpoints in '
                f'{runner.work_dir} are from before. {CAUSES}'
            ) from error


def bad_losses(outputs: Mapping[str, Any]) -> list[str]:
    """Names and values of the losses of a step that are not finite; the sum only if no part is."""
    losses = {name: value for name, value in outputs.items() if 'loss' in name.rsplit('.')[-1]}
    found = {}
    for name, value in losses.items():
        number = float(value.detach().mean()) if isinstance(value, Tensor) else float(value)
        if not math.isfinite(number):
            found[name] = f'{name} is {number}'
    if len(found) > 1:
        found.pop('loss', None)
    return list(found.values())
