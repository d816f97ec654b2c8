#!/usr/bin/env python
"""Fit the teacher's decisions of a config, without training; any student of the teacher can use them."""

from __future__ import annotations

import argparse

from mmengine.config import Config
from mmengine.dist import is_main_process
from torch import nn

import cli
import mmkdlayer  # noqa: F401  (makes the host libraries work, registers this plugin)
from cli.agreement import compare_configs
from cli.launch import end_launch, prepare_launch
from mmkdlayer.engine import prepare_decisions
from mmkdlayer.engine.hooks import FitDecisionsHook
from mmkdlayer.engine.hooks.check_weights_hook import check_teacher
from mmkdlayer.engine.teachers import find_teachers
from mmkdlayer.fitting.distributed import errors_on_all_ranks
from mmkdlayer.models.decisions import read_decision_file
from mmkdlayer.models.wrappers import unwrap_model
from mmkdlayer.registry import HOOKS
from mmkdlayer.stored import take_out_store


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='training config')
    parser.add_argument('--work-dir', help='folder for logs')
    parser.add_argument('--out', help='folder for the decisions (default: where training looks)')
    cli.add_common_options(parser)
    return parser.parse_args()


def main() -> None:
    """Fit."""
    args = parse_args()
    with cli.report_errors(args.debug):
        cfg, hook, out = prepare(args)
        compare_configs(cfg)
        model = build_model(cfg)
        paths = prepare_decisions(model, cfg, out, hook.options)
        for name, path in paths.items():
            if is_main_process():
                read_decision_file(path)  # what is named must be there
            print(f'{name}: {path}')
        if not paths:
            print(
                'Nothing to fit: the config has no KD layer whose decision is not given by a file.'
            )
        end_launch()


def prepare(args: argparse.Namespace) -> tuple[Config, FitDecisionsHook, str]:
    """The config, its hook, and the folder that is written; before that the data is checked."""
    cfg = cli.load_config(args)
    take_out_store(cfg, forget=True)  # the config of a training that reads what is stored already
    cfg.launcher, cfg.load_from, cfg.resume = args.launcher, None, False
    cli.choose_work_dir(cfg, args)
    cli.watch_signals(cfg)
    hook = fitting_hook(cfg)
    out = args.out or hook.folder(cfg.work_dir)
    prepare_launch(cfg, args.dist_timeout)
    with errors_on_all_ranks():
        data_sets = cli.check_data(cfg, ('train_dataloader',), args=args)
        cli.check_writable(out)
        cli.check_checkpoints(cfg, data_sets)
    return cfg, hook, out


def build_model(cfg: Config) -> nn.Module:
    """Build the algorithm; its teachers must have weights."""
    cfg.custom_hooks = []
    model = unwrap_model(cli.build_runner(cfg).model)
    model.init_weights()
    for teacher in find_teachers(model, cfg.model):
        check_teacher(teacher)
    return model


def fitting_hook(cfg: Config) -> FitDecisionsHook:
    """The FitDecisionsHook that the config lists, or one with the defaults."""
    hook = cli.find_hook(cfg, 'FitDecisionsHook')
    if isinstance(hook, FitDecisionsHook):
        return hook
    return FitDecisionsHook() if hook is None else HOOKS.build(hook)


if __name__ == '__main__':
    main()
