"""Changes of each distillation loss's weight over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.attach import suggest_names
from mmkdlayer.models.wrappers import unwrap_model
from mmkdlayer.registry import HOOKS

Points = Sequence[tuple[float, float]]


@HOOKS.register_module()
class DistillLossScheduleHook(Hook):
    """Changes the weights of distillation losses during training, those of any distiller.

    Each loss counts as often as it would without the hook, its own ``loss_weight`` included, times a
    factor. It follows straight lines between points (time, factor), and is constant before and after::

        dict(type='mmkdlayer.DistillLossScheduleHook', losses=dict(
            loss_kl=[(0, 0.1), (5, 1)],  # warm-up
            loss_penult=[(60, 1), (90, 0.1)]))  # decay

    The log has ``distill.loss_kl`` (what counts), ``distill.loss_kl_raw`` (before the factor) and
    ``distill.loss_kl_factor``. The factor follows from the number of epochs or iterations that the
    runner has done, so a resumed training continues as an uninterrupted one. A loss with the factor 0 is
    still computed, so that its parameters take part in a distributed step; after mmrazor's
    StopDistillHook none is, and the log has none of the three.

    Args:
        losses: For each name in ``distill_losses`` its points, in the order of their times.
        by_epoch: Whether times are epochs (the factor is constant in each) or iterations.
        distiller: Attribute of the algorithm that holds the losses; data-free algorithms also have a
            ``generator_distiller``.

    Raises:
        ConfigError: A schedule is not one; before training, if there is no such loss or no epochs.
    """

    # Before the hook that writes a step's outputs to the log (VERY_HIGH).
    priority = 'HIGHEST'

    def __init__(
        self, losses: Mapping[str, Points], by_epoch: bool = True, distiller: str = 'distiller'
    ) -> None:
        self.by_epoch = by_epoch
        self.distiller = distiller
        self.schedules = {name: check_points(name, points) for name, points in losses.items()}
        self._factors: dict[str, float] = {}
        self._raw: dict[str, Tensor] = {}

    def before_train(self, runner: Runner) -> None:
        """Find the losses; the ConfigError for one that isn't there lists near matches."""
        if self.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ConfigError(
                'DistillLossScheduleHook: its times are epochs, but this training counts iterations '
                'alone (train_cfg.by_epoch is False). Give times in iterations, and by_epoch=False.'
            )
        model = unwrap_model(runner.model)
        modules = getattr(getattr(model, self.distiller, None), 'distill_losses', {})
        for name in self.schedules:
            if name not in modules:
                raise ConfigError(
                    f'DistillLossScheduleHook: {type(model).__name__}.{self.distiller} has no loss '
                    f'"{name}". {suggest_names(name, modules) if modules else "It has none."}'
                )
            if name not in self._factors:
                self._factors[name] = 1.0
                modules[name].register_forward_hook(partial(self._scale, name))

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Set the factors of this step."""
        time = runner.epoch if self.by_epoch else runner.iter
        self._factors = {
            name: float(np.interp(time, *points)) for name, points in self.schedules.items()
        }
        self._raw = {}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Add the raw values and factors to what is logged."""
        if outputs is None:
            return
        prefix = 'generator' if self.distiller == 'generator_distiller' else 'distill'
        for name, raw in self._raw.items():
            outputs[f'{prefix}.{name}_raw'] = raw.mean()
            outputs[f'{prefix}.{name}_factor'] = self._factors[name]

    def _scale(self, name: str, loss: nn.Module, args: Any, output: Tensor) -> Tensor:
        """Forward hook of a loss: multiply it, and keep what it was."""
        self._raw[name] = output.detach()
        return output * self._factors[name]


def check_points(name: str, points: Points) -> tuple[np.ndarray, np.ndarray]:
    """Times and factors of a schedule, or a ConfigError where it is none."""
    try:
        times, factors = np.asarray(points, float).T
        rising = times[0] >= 0 and bool((np.diff(times) > 0).all())
        if rising and bool((factors >= 0).all()):
            return times, factors
    except (TypeError, ValueError, IndexError):
        pass
    raise ConfigError(
        f'DistillLossScheduleHook, loss "{name}": expected points (time, factor), with rising times and '
        'none below 0, such as [(0, 0.1), (5, 1)] for a warm-up and [(30, 1), (60, 0)] for a decay, but '
        f'got {points!r:.200}.'
    )
