#!/usr/bin/env python
"""Train a student with KD layers: fits the teacher's decisions where needed, then distils."""

from __future__ import annotations

import argparse

from mmengine.runner import Runner

import mmkdlayer  # noqa: F401  (makes the host libraries work, registers this plugin)
from mmkdlayer import cli
from mmkdlayer.engine.launch import end_launch, prepare_launch


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
        '--amp', action='store_true', help='automatic mixed precision (bfloat16 on CPUs)'
    )
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate to the batch size'
    )
    cli.add_common_options(parser)
    return parser.parse_args()


def main() -> None:
    """Train."""
    args = parse_args()
    with cli.report_errors(args.debug):
        cfg = cli.load_config(args)
        given = cfg.to_dict()
        cli.complete_config(cfg, args)
        cli.watch_signals(cfg)
        cli.check_compile(cfg)
        cli.check_data_roots(cfg, ('train_dataloader', 'val_dataloader'))
        cli.check_writable(cfg.work_dir)
        cli.check_checkpoints(cfg)
        prepare_launch(cfg, args.dist_timeout)
        runner = Runner.from_cfg(cfg)
        for change in cli.describe_changes(given, cfg.to_dict()):
            runner.logger.info(f'Config completed by tools/train.py: {change}')
        runner.train()
        end_launch()


if __name__ == '__main__':
    main()
