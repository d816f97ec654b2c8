#!/usr/bin/env python
"""Train a student with KD layers: fits the teacher's decisions where needed, then distils."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device

import cli
import mmkdlayer  # noqa: F401  (makes the host libraries work, registers this plugin)
from cli.agreement import compare_configs, compare_data
from cli.launch import end_launch, prepare_launch
from cli.resuming import find_checkpoint
from mmkdlayer.engine.data_checks import check_batches
from mmkdlayer.engine.locks import folder_lock
from mmkdlayer.errors import ConfigError
from mmkdlayer.fitting.distributed import errors_on_all_ranks
from mmkdlayer.stored import use_store

#: Hooks that every training needs, and those that one with a teacher needs besides.
TRAINING_HOOKS = (
    'mmkdlayer.CheckDataHook',
    'mmkdlayer.CheckFiniteHook',
    'mmkdlayer.PreemptionHook',
)
DISTILLATION_HOOKS = (
    'mmkdlayer.CheckWeightsHook',
    'mmkdlayer.FitDecisionsHook',
    'mmkdlayer.ReleaseRecordsHook',
)
#: Seconds to wait for another training in the same work dir: the lock of one that was killed may be held
#: by its data workers, or by a network file system that has not yet missed its machine.
LOCK_PATIENCE = 120.0
_NOTHING = object()


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='training config')
    parser.add_argument('--work-dir', help='folder for logs, decisions and checkpoints')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from a checkpoint, or from the latest one in the work dir if none is named',
    )
    parser.add_argument(
        '--init-from',
        metavar='CHECKPOINT',
        help='begin with what fits of these weights, and say what does not (key init_from)',
    )
    parser.add_argument(
        '--stored',
        metavar='DIR',
        help='train on the decisions that store_decisions has stored there, without the teacher',
    )
    cli.add_amp_option(parser)
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate to the batch size'
    )
    cli.add_common_options(parser)
    return parser.parse_args(cli.separate_amp(sys.argv[1:]))


def main() -> None:
    """Train."""
    args = parse_args()
    with cli.report_errors(args.debug):
        cfg = cli.load_config(args)
        without_teacher = use_store(cfg, args.stored)
        given = cfg.to_dict()
        complete_config(cfg, args)
        cli.watch_signals(cfg)
        check_compile(cfg)
        cli.check_schedules(cfg)
        prepare_launch(cfg, args.dist_timeout)
        with errors_on_all_ranks():
            cli.check_writable(cfg.work_dir)
            data_sets = cli.check_data(cfg, ('train_dataloader', 'val_dataloader'), args=args)
        compare_configs(cfg)
        with folder_lock(cfg.work_dir, 'training', LOCK_PATIENCE, 'Or choose another --work-dir.'):
            with errors_on_all_ranks():
                notice = choose_checkpoint(cfg)
                cli.check_checkpoints(cfg, data_sets)
            runner = cli.build_runner(cfg)
            if notice:
                runner.logger.warning(notice)
            if without_teacher:
                runner.logger.info(without_teacher)
            for change in describe_changes(given, cfg.to_dict()):
                runner.logger.info(f'Config completed for training: {change}')
            for warning in (*cli.schedule_warnings(cfg), *cli.unread_warnings(cfg, runner.model)):
                runner.logger.warning(warning)
            compare_data(runner)
            check_batches(
                runner.train_dataloader, 'train_dataloader'
            )  # before schedules divide by them
            runner.train()
            end_launch()


def complete_config(cfg: Config, options: argparse.Namespace) -> None:
    """Make a config ready to train, in place; :func:`describe_changes` says what that changed.

    The configs of this project hold the hooks and the loop; those of users may lack them.

    Raises:
        ConfigError: The config can't do what an option asks for.
    """
    if not cfg.get('train_cfg'):
        raise ConfigError(
            f'Config {options.config}: expected a training config, with train_cfg, train_dataloader and '
            f'optim_wrapper, but it has {sorted(cfg)}. An exported student.py can be tested, not '
            'trained.'
        )
    cli.check_unread(cfg)
    cfg.launcher = options.launcher
    cli.choose_work_dir(cfg, options)
    needed = TRAINING_HOOKS + (DISTILLATION_HOOKS if 'distiller' in cfg.get('model', {}) else ())
    missing = [dict(type=name) for name in needed if cli.find_hook(cfg, name) is None]
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), *missing]
    if cfg.train_cfg.get('by_epoch') and 'type' not in cfg.train_cfg:
        cfg.train_cfg.pop('by_epoch')
        cfg.train_cfg.type = 'mmkdlayer.ResumableEpochLoop'
    if options.amp:
        cli.use_amp_in_training(cfg, options.amp)
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
    if options.init_from:
        cfg.init_from = options.init_from
    if cfg.get('init_from'):
        _begin_with_what_fits(cfg)


def _begin_with_what_fits(cfg: Config) -> None:
    if cfg.get('load_from') and not cfg.get('resume'):
        raise ConfigError(
            f'init_from={cfg.init_from} and load_from={cfg.load_from} are both given, but training '
            'begins with the weights of one file. Take one of them out.'
        )
    hook = cli.find_hook(cfg, 'InitFromHook')
    others = [other for other in cfg.custom_hooks if other is not hook]
    cfg.custom_hooks = [*others, dict(type='mmkdlayer.InitFromHook', checkpoint=cfg.init_from)]


def choose_checkpoint(cfg: Config) -> str:
    """Where a config is to be resumed and names no checkpoint, let it name the one to resume from.

    Returns:
        What to tell the user about it, or about checkpoints that a new training may replace; empty
        where all is as expected.

    Raises:
        CheckpointError: There are checkpoints, but none can be used.
    """
    if not cfg.get('resume'):
        there = sorted(path.name for path in Path(cfg.work_dir).glob('epoch_*.pth'))
        if not there:
            return ''
        return (
            f'{cfg.work_dir} has checkpoints of an earlier training ({", ".join(there[:3])}). This one '
            'begins anew and replaces those of the same names. --resume continues the earlier one, '
            'another --work-dir keeps both.'
        )
    if cfg.get('load_from') is not None:
        return ''
    # As CheckpointHook does: the last part of the work dir is a folder there.
    out_dir = ((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get('out_dir')
    name = Path(cfg.work_dir).name
    cfg.load_from, notice = find_checkpoint(cfg.work_dir, [Path(out_dir, name)] if out_dir else [])
    if cfg.load_from is None:
        where = f'{cfg.work_dir} has no checkpoint to continue from'
        return f'--resume: {where}: training begins at its start.'
    return notice


def check_compile(cfg: Config) -> None:
    """Raise a ConfigError where ``compile`` asks for torch.compile on a CPU without a C++ compiler."""
    options = cfg.get('compile')
    given = options if isinstance(options, dict) else {}
    compilers = [os.environ.get('CXX') or 'g++', 'clang++']
    used = options and given.get('backend', 'inductor') == 'inductor' and not given.get('disable')
    if not used or get_device() != 'cpu':
        return
    if not any(shutil.which(compiler) for compiler in compilers):
        raise ConfigError(
            f'compile={options} expects a C++ compiler on a machine without GPU, but there is none of '
            f'{", ".join(compilers)}. Install g++, or leave compile out.'
        )


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


if __name__ == '__main__':
    main()
