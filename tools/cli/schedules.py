"""Schedules of the learning rate that end at another time than the training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.optim.scheduler.param_scheduler import INF

from mmkdlayer.errors import ConfigError
from mmkdlayer.type_names import type_name

#: Schedules that keep falling until their end, so what comes after it trains at their last value.
_FALLING = ('CosineAnnealing', 'Poly', 'OneCycle')


def check_schedules(cfg: Config) -> None:
    """Raise a ConfigError for a schedule that begins at its end or later, or a wrong ``val_interval``.

    mmengine says so in iterations, after everything was built. Units: see :func:`schedule_warnings`.
    """
    unit, length, entries = _compared(cfg)
    interval = (cfg.get('train_cfg') or {}).get('val_interval', 1)
    if not isinstance(interval, int) or interval < 1:
        raise ConfigError(
            f'train_cfg.val_interval={interval!r}: expected a whole number of {unit}s, 1 or more; with '
            f'that of train_cfg.max_{unit}s, validation is at the end only.'
        )
    for path, one in entries:
        begin, end = one.get('begin') or 0, one.get('end', length)
        if end is not None and begin >= end:
            own = f'{path}.end' if 'end' in one else f'train_cfg.max_{unit}s'
            raise ConfigError(
                f'{path} ({type_name(one.get("type"))}) begins at {unit} {begin}, but expected a time '
                f'before its end, {own}={end}. Change {path}.begin, or train longer; a short trial can '
                'do without a schedule: --cfg-options param_scheduler=None.'
            )


def schedule_warnings(cfg: Config) -> Iterator[str]:
    """A sentence for each schedule that ends elsewhere than the training, and on checkpoints at its end.

    Times are compared where both are in epochs, or both in iterations.
    """
    unit, length, entries = _compared(cfg)
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint', {})
    if (
        'max_iters' in (cfg.get('train_cfg') or {})
        and checkpoint is not None
        and checkpoint.get('by_epoch', True)
    ):
        yield (
            'default_hooks.checkpoint counts epochs, but the training counts iterations '
            '(train_cfg.max_iters), so nothing is saved before its end. Set '
            'default_hooks.checkpoint.by_epoch=False, and its interval in iterations.'
        )
    last = max((_end(one)[1] or length for _, one in entries), default=0)
    for path, one in entries:
        (key, end), kind = _end(one), type_name(one.get('type'))
        if end > length:
            effect = 'so the rest of it never comes'
        elif end and end == last < length and kind.startswith(_FALLING):
            effect = f'so the last {length - end} {unit}s are trained beyond its end'
        else:
            continue
        yield (
            f'{path} ({kind}) has its last change at {unit} {end}, but train_cfg.max_{unit}s is '
            f'{length}, {effect}. Make {path}.{key} and train_cfg.max_{unit}s fit each other.'
        )


def _compared(cfg: Config) -> tuple[str, int, list[tuple[str, Mapping[str, Any]]]]:
    """The unit and length of the training, and the schedules in this unit; none without a length."""
    train = cfg.get('train_cfg') or {}
    unit = 'epoch' if 'max_epochs' in train else 'iter'
    length = train.get(f'max_{unit}s')
    if not isinstance(length, int):
        return unit, 0, []
    found = find_schedules(cfg.get('param_scheduler'))
    by_epoch = unit == 'epoch'
    return unit, length, [(p, one) for p, one in found if one.get('by_epoch', True) == by_epoch]


def find_schedules(
    value: Any, path: str = 'param_scheduler'
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All schedules, each with its dotted name: one, a list, or a dict of lists by optimiser."""
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from find_schedules(item, f'{path}.{index}')
    elif isinstance(value, Mapping) and 'type' in value:
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from find_schedules(item, f'{path}.{key}')


def _end(schedule: Mapping[str, Any]) -> tuple[str, int]:
    """The option that says when a schedule has its last change, and that time.

    The time is 0 where mmengine lets it last to the end of the training.
    """
    begin = schedule.get('begin') or 0
    if schedule.get('milestones'):
        return 'milestones', begin + max(schedule['milestones'])
    for key in ('T_max', 'total_steps'):
        if schedule.get(key):
            return key, begin + schedule[key]
    end = schedule.get('end') or 0
    return 'end', end if end < INF else 0
