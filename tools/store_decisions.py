#!/usr/bin/env python
"""Run the teacher of a config once and store what it decides, so that training needs no teacher."""

from __future__ import annotations

import argparse

from mmengine.dist import is_main_process

import cli
import mmkdlayer  # noqa: F401  (makes the host libraries work, registers this plugin)
from fit_decisions import fitting_hook
from mmkdlayer.engine import prepare_decisions
from mmkdlayer.engine.agreement import compare_configs
from mmkdlayer.engine.hooks.check_weights_hook import check_teacher
from mmkdlayer.engine.launch import end_launch, prepare_launch
from mmkdlayer.engine.teachers import find_teachers
from mmkdlayer.fitting.distributed import errors_on_all_ranks
from mmkdlayer.models.wrappers import unwrap_model
from mmkdlayer.stored.planning import StoreOptions
from mmkdlayer.stored.storing import store_decisions
from mmkdlayer.stored.training import needs_teacher, take_out_store


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
    cli.add_image_options(parser)
    cli.add_common_options(parser)
    return parser.parse_args()


def main() -> None:
    """Store."""
    args = parse_args()
    with cli.report_errors(args.debug):
        cfg = cli.load_config(args)
        take_out_store(cfg, forget=True)  # where to train from it may be in the config already
        cfg.launcher, cfg.load_from, cfg.resume = args.launcher, None, False
        cli.choose_work_dir(cfg, args)
        cli.watch_signals(cfg)
        hook = fitting_hook(cfg)
        prepare_launch(cfg, args.dist_timeout)
        with errors_on_all_ranks():
            data_sets = cli.check_data(cfg, ('train_dataloader',), args=args)
            cli.check_writable(args.out)
            cli.check_checkpoints(cfg, data_sets)
        interval = hook.options.checkpoint_interval
        options = StoreOptions(args.views, args.seed, args.logits, interval)
        compare_configs(cfg, **vars(options))
        cfg.custom_hooks = []
        runner = cli.build_runner(cfg)
        model = unwrap_model(runner.model)
        model.init_weights()
        for teacher in find_teachers(model, cfg.model):
            check_teacher(teacher)
        for phrase in needs_teacher(cfg):
            runner.logger.warning(
                f'This config can not train on what is stored, another one can: {phrase}.'
            )
        prepare_decisions(model, cfg, hook.folder(cfg.work_dir), hook.options)
        store = store_decisions(model, cfg, args.out, options)
        if is_main_process():
            print(f'{store.views} views of {store.images} images: {store.folder}')
        end_launch()


if __name__ == '__main__':
    main()
