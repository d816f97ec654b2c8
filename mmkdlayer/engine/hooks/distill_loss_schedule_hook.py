"""Warm-up, decay and end of each distillation loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.attach import suggest_names
from mmkdlayer.models.wrappers import unwrap_model
from mmkdlayer.registry import HOOKS


@dataclass(frozen=True)
class LossSchedule:
    """The factor of one loss over time, in epochs or iterations that are done: 1 but for these parts.

    Attributes:
        warmup: Up to this time the factor rises from ``start`` to 1, linearly.
        start: Factor at time 0 of a warm-up.
        decay_begin: From this time on it goes from 1 to ``final``, linearly; None for no decay.
        decay_end: The time from which on it is ``final``.
        final: Factor after the decay.
        stop: From this time on it is 0; None for never.

    Raises:
        ConfigError: A number is negative, or the times are not in order.
    """

    warmup: float = 0
    start: float = 0.0
    decay_begin: float | None = None
    decay_end: float | None = None
    final: float = 0.0
    stop: float | None = None

    def __post_init__(self) -> None:
        begin, end = self.decay_begin, self.decay_end
        times = [time for time in (0, self.warmup, begin, end, self.stop) if time is not None]
        if (
            times != sorted(times)
            or (begin is None) != (end is None)
            or (begin is not None and begin == end)
            or min(self.start, self.final) < 0
        ):
            raise ConfigError(
                'A loss schedule needs 0 <= warmup <= decay_begin < decay_end <= stop (decay_begin and '
                f'decay_end both or neither) and factors of at least 0, but got {self}.'
            )

    def factor(self, time: float) -> float:
        """The factor when ``time`` epochs or iterations are done."""
        if self.stop is not None and time >= self.stop:
            return 0.0
        if time < self.warmup:
            return self.start + (1 - self.start) * time / self.warmup
        if self.decay_begin is None or self.decay_end is None or time <= self.decay_begin:
            return 1.0
        share = min(1.0, (time - self.decay_begin) / (self.decay_end - self.decay_begin))
        return 1 + (self.final - 1) * share


@HOOKS.register_module()
class DistillLossScheduleHook(Hook):
    """Changes the weights of distillation losses during training, those of any distiller.

    Each loss counts ``factor(time)`` times (see :class:`LossSchedule`) what it would count without
    the hook, its own ``loss_weight`` included::

        dict(type='mmkdlayer.DistillLossScheduleHook', losses=dict(
            loss_kl=dict(warmup=5),
            loss_penult=dict(decay_begin=60, decay_end=90, final=0.1)))

    The log has ``distill.loss_kl`` (what counts), ``distill.loss_kl_raw`` (before the factor) and
    ``distill.loss_kl_factor``. The factor follows from the number of epochs or iterations that the
    runner has done, so a resumed training continues as an uninterrupted one. A loss with the factor 0 is
    still computed, so that its parameters take part in a distributed step; after mmrazor's
    StopDistillHook none is, and the log has none of the three.

    Args:
        losses: For each name in ``distill_losses`` the arguments of its :class:`LossSchedule`.
        by_epoch: Whether times are epochs (the factor is constant in each) or iterations.
        distiller: Attribute of the algorithm that holds the losses; data-free algorithms also have a
            ``generator_distiller``.

    Raises:
        ConfigError: A schedule is not one; before training, if there is no such loss or no epochs.
    """

    # Before the hook that writes a step's outputs to the log (VERY_HIGH).
    priority = 'HIGHEST'

    def __init__(
        self,
        losses: Mapping[str, Mapping[str, float]],
        by_epoch: bool = True,
        distiller: str = 'distiller',
    ) -> None:
        self.by_epoch = by_epoch
        self.distiller = distiller
        self.schedules = {}
        for name, arguments in losses.items():
            try:
                self.schedules[name] = LossSchedule(**arguments)
            except (TypeError, ConfigError) as error:
                raise ConfigError(f'DistillLossScheduleHook, loss "{name}": {error}') from error
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
        self._factors = {name: plan.factor(time) for name, plan in self.schedules.items()}
        self._raw = {}

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
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
