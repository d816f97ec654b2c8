#!/usr/bin/env python
"""Train a student with KD layers: fits the teacher's decisions where needed, then distils."""

from __future__ import annotations

import argparse

from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.runner import Runner

import mmkdlayer  # noqa: F401  (makes the host libraries work, registers this plugin)
from mmkdlayer.engine import cli
from mmkdlayer.engine.launch import end_launch, prepare_launch
from mmkdlayer.errors import ConfigError
from mmkdlayer.type_names import type_name


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
        help='go on from a checkpoint, or from the latest one in the work dir if none is named',
    )
    parser.add_argument(
        '--amp', action='store_true', help='automatic mixed precision (bfloat16 on CPUs)'
    )
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate to the batch size'
    )
    parser.add_argument('--debug', action='store_true', help='show tracebacks of expected errors')
    cli.add_common_options(parser, DictAction)
    return parser.parse_args()


def apply_options(cfg: Config, args: argparse.Namespace) -> None:
    """Carry the command line over into the config.

    Raises:
        ConfigError: The config can't do what an option asks for.
    """
    cfg.launcher = args.launcher
    cli.set_work_dir(cfg, args.config, args.work_dir)
    if args.amp:
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
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise ConfigError(
                '--auto-scale-lr expects auto_scale_lr=dict(base_batch_size=...) in the config, but '
                f'found {cfg.get("auto_scale_lr")}.'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume == 'auto':
        cfg.resume, cfg.load_from = True, None
    elif args.resume is not None:
        cfg.resume, cfg.load_from = True, args.resume


def main() -> None:
    """Train."""
    args = parse_args()
    with cli.errors_for_people(args.debug):
        cfg = cli.load_config(args)
        cli.add_needed_hooks(cfg)
        cli.watch_signals(cfg)
        apply_options(cfg, args)
        cli.use_resumable_loop(cfg)
        cli.check_compile(cfg)
        cli.check_data_roots(cfg, ('train_dataloader', 'val_dataloader'))
        cli.check_writable(cfg.work_dir)
        cli.check_checkpoints(cfg)
        prepare_launch(cfg, args.dist_timeout)
        Runner.from_cfg(cfg).train()
        end_launch()


if __name__ == '__main__':
    main()
