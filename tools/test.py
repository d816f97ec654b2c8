#!/usr/bin/env python
"""Accuracy of a student, from a training checkpoint or an exported one; no teacher is needed."""

from __future__ import annotations

import argparse
import json
import sys

from mmengine.dist import is_main_process

import cli
import mmkdlayer  # noqa: F401  (makes the host libraries work, registers this plugin)
from cli.agreement import compare_configs
from cli.launch import end_launch, prepare_launch
from mmkdlayer.atomic import replacing
from mmkdlayer.checkpoints import load_weights, read_student_weights
from mmkdlayer.deploy import check_trained_config, student_model_config
from mmkdlayer.deploy.student_config import test_settings
from mmkdlayer.engine.trial_evaluation import check_evaluation
from mmkdlayer.fitting.distributed import errors_on_all_ranks
from mmkdlayer.models.wrappers import unwrap_model


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='training config, or student.py of an exported student')
    parser.add_argument('checkpoint', help='training checkpoint, or student.pth')
    parser.add_argument('--work-dir', help='folder for logs')
    parser.add_argument('--out', help='JSON file to write the metrics to')
    cli.add_amp_option(parser)
    cli.add_common_options(parser, checkpoint=True)
    return parser.parse_args(cli.separate_amp(sys.argv[1:]))


def main() -> None:
    """Test."""
    args = parse_args()
    with cli.report_errors(args.debug):
        cfg = cli.load_config(args)
        cfg.launcher = args.launcher
        cli.choose_work_dir(cfg, args)
        cli.check_writable(cfg.work_dir)
        if args.out is not None:
            cli.check_out_file(args.out)
        state, meta = read_student_weights(args.checkpoint, sha256=cfg.get('weights_sha256'))
        check_trained_config(cfg, meta, args.checkpoint, refuse=not args.config_as_given)
        if not cfg.get('test_dataloader') and cfg.get('val_dataloader'):
            print('The config has no test_dataloader: the validation images are the test images.')
            for key, value in test_settings(cfg).items():
                cfg[key] = value
        if args.amp:
            cli.use_amp_in_test(cfg, args.amp)
        cfg.custom_hooks, cfg.load_from, cfg.resume = [], None, False
        prepare_launch(cfg, args.dist_timeout)
        with errors_on_all_ranks():
            cli.check_data(cfg, ('test_dataloader',), args.checkpoint, meta, args)
        # Only the student is tested, so only the student is built.
        cfg.model = student_model_config(cfg)
        for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
            cfg.pop(key, None)
        for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
            cfg.pop(key, None)
        compare_configs(cfg, checkpoint=args.checkpoint)
        runner = cli.build_runner(cfg)
        load_weights(unwrap_model(runner.model), state, f'Checkpoint {args.checkpoint}')
        check_evaluation(runner, 'test')
        metrics = runner.test()
        if args.out and is_main_process():
            with replacing(args.out) as file:
                file.write_text(json.dumps(metrics, indent=1))
        end_launch()


if __name__ == '__main__':
    main()
