"""Completes a training config: with what a run needs, and with what the command line asks for."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device

from mmkdlayer.engine.hooks import FitDecisionsHook
from mmkdlayer.engine.signals import SIGNALS, WATCH
from mmkdlayer.errors import ConfigError
from mmkdlayer.registry import HOOKS
from mmkdlayer.type_names import type_name

from .options import choose_work_dir

#: Hooks that every training needs, and those that one with a teacher needs besides.
TRAINING_HOOKS = ('mmkdlayer.PreemptionHook',)
DISTILLATION_HOOKS = (
    'mmkdlayer.CheckWeightsHook',
    'mmkdlayer.FitDecisionsHook',
    'mmkdlayer.ReleaseRecordsHook',
)
_NOTHING = object()


def complete_config(cfg: Config, options: argparse.Namespace) -> None:
    """Make a config ready to train, in place; :func:`describe_changes` says what that changed.

    The configs of this project hold the hooks and the loop; those of users may lack them.

    Args:
        cfg: The training config.
        options: Those of ``tools/train.py``.

    Raises:
        ConfigError: The config can't do what an option asks for.
    """
    cfg.launcher = options.launcher
    choose_work_dir(cfg, options)
    needed = TRAINING_HOOKS + (DISTILLATION_HOOKS if 'distiller' in cfg.get('model', {}) else ())
    missing = [dict(type=name) for name in needed if listed_hook(cfg, name) is None]
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), *missing]
    if cfg.train_cfg.get('by_epoch') and 'type' not in cfg.train_cfg:
        cfg.train_cfg.pop('by_epoch')
        cfg.train_cfg.type = 'mmkdlayer.ResumableEpochLoop'
    if options.amp:
        _use_mixed_precision(cfg)
    if options.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise ConfigError(
                '--auto-scale-lr expects auto_scale_lr=dict(base_batch_size=...) in the config, but '
                f'found {cfg.get("auto_scale_lr")}.'
            )
        cfg.auto_scale_lr.enable = True
    if options.resume is not None:
        cfg.resume = True
        cfg.load_from = None if options.resume == 'auto' else options.resume


def _use_mixed_precision(cfg: Config) -> None:
    wrapper = type_name(cfg.optim_wrapper.get('type', 'OptimWrapper'))
    if wrapper not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ConfigError(
            f'--amp expects optim_wrapper.type OptimWrapper, but the config has {wrapper}.'
        )
    if get_device() == 'cpu':
        cfg.optim_wrapper.type = 'mmkdlayer.CpuAmpOptimWrapper'
        for option in ('loss_scale', 'dtype', 'use_fsdp'):  # bfloat16, which needs no scaling
            cfg.optim_wrapper.pop(option, None)
    else:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def describe_changes(before: Any, after: Any, name: str = '') -> Iterator[str]:
    """A line for each entry of a config that was added, changed or removed, by its dotted name."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in {**before, **after}:
            pair = before.get(key, _NOTHING), after.get(key, _NOTHING)
            yield from describe_changes(*pair, f'{name}.{key}' if name else key)
    elif isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
        for index, pair in enumerate(zip_longest(before, after, fillvalue=_NOTHING)):
            yield from describe_changes(*pair, f'{name}.{index}')
    elif after is _NOTHING:
        yield f'{name} is removed (it was {before!r})'
    elif before is _NOTHING:
        yield f'{name} = {after!r} is added'
    elif before != after:
        yield f'{name} = {after!r} (it was {before!r})'


def listed_hook(cfg: Config, name: str) -> dict | None:
    """The first of a config's ``custom_hooks`` of this type, with or without its scope; else None."""
    for hook in cfg.get('custom_hooks') or []:
        if type_name(hook.get('type')) == type_name(name):
            return hook
    return None


def watch_signals(cfg: Config) -> None:
    """Begin to watch for the PreemptionHook's signals before anything that takes long is built."""
    hook = listed_hook(cfg, 'PreemptionHook')
    if hook is not None:
        WATCH.start(hook.get('signals', SIGNALS))


def fitting_hook(cfg: Config) -> FitDecisionsHook:
    """The FitDecisionsHook that the config lists, or one with the defaults."""
    hook = listed_hook(cfg, 'FitDecisionsHook')
    return FitDecisionsHook() if hook is None else HOOKS.build(hook)
