#!/usr/bin/env python
"""Run the teacher of a config once and store what it decides, so that training needs no teacher."""

from __future__ import annotations

import argparse

from mmengine.dist import is_main_process
from mmengine.logging import MMLogger

import cli
import mmkdlayer  # noqa: F401  (makes the host libraries work, registers this plugin)
from cli.agreement import compare_configs
from cli.launch import end_launch
from fit_decisions import build_model, prepare
from mmkdlayer.engine import prepare_decisions
from mmkdlayer.stored.training import needs_teacher
from storing.planning import StoreOptions
from storing.store import store_decisions


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='training config')
    parser.add_argument(
        '--views',
        type=cli.whole_number(),
        required=True,
        metavar='V',
        help='how many views of each image, as the training pipeline draws them; epoch e trains on '
        'view e mod V',
    )
    parser.add_argument(
        '--out', required=True, help='folder of the store; a begun one is continued'
    )
    parser.add_argument('--seed', type=int, default=0, help='base seed of the views (default: 0)')
    parser.add_argument(
        '--logits',
        type=cli.whole_number(),
        metavar='K',
        help="store the K largest of the teacher's logits of each view too",
    )
    parser.add_argument('--work-dir', help='folder for logs, and for decisions that are fitted')
    cli.add_common_options(parser)
    return parser.parse_args()


def main() -> None:
    """Store."""
    args = parse_args()
    with cli.report_errors(args.debug):
        cfg, hook, out = prepare(args)
        interval = hook.options.checkpoint_interval
        options = StoreOptions(args.views, args.seed, args.logits, interval)
        compare_configs(cfg, **vars(options))
        model = build_model(cfg)
        for phrase in needs_teacher(cfg):
            MMLogger.get_current_instance().warning(
                f'This config can not train on what is stored, another one can: {phrase}.'
            )
        prepare_decisions(model, cfg, hook.folder(cfg.work_dir), hook.options)
        store = store_decisions(model, cfg, out, options)
        if is_main_process():
            print(f'{store.views} views of {store.images} images: {store.folder}')
        end_launch()


if __name__ == '__main__':
    main()
