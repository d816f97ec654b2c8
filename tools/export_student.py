#!/usr/bin/env python
"""Write the student as a folder of its own: config, weights, model card; no teacher, no mmrazor."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import Any

import cli
import mmkdlayer  # noqa: F401  (makes the host libraries work, registers this plugin)
from mmkdlayer.deploy import ExportOptions, export_student
from mmkdlayer.deploy.formats import FILES, OPSET
from mmkdlayer.deploy.int8 import INT8
from mmkdlayer.errors import ConfigError
from mmkdlayer.plain_json import parse_json


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='training config, or student.py of an exported student')
    parser.add_argument('checkpoint', help='training checkpoint, or student.pth')
    parser.add_argument('--out', required=True, help='folder to write')
    parser.add_argument(
        '--ema',
        action=argparse.BooleanOptionalAction,
        help='averaged weights of an EMAHook, which validation used; --no-ema: those of the last step '
        '(default: averaged, where the checkpoint has them)',
    )
    parser.add_argument(
        '--fold', action='store_true', help='make each KD layer two plain 1x1 convolutions'
    )
    parser.add_argument(
        '--prune-templates',
        metavar='DATA',
        help='fold, and leave out templates that fire nowhere in these images: train, val or test (of '
        'the config), or a folder; logits on them stay the same',
    )
    parser.add_argument(
        '--prune-images', type=cli.whole_number(), metavar='N', help='at most N of them, at random'
    )
    parser.add_argument('--onnx', action='store_true', help=f'{FILES["onnx"]}, opset {OPSET}')
    parser.add_argument('--torchscript', action='store_true', help=FILES['torchscript'])
    parser.add_argument('--torch-export', action='store_true', help=FILES['torch_export'])
    parser.add_argument(
        '--int8',
        metavar='DATA',
        help=f'{INT8}, with 8-bit integers, beside a folded {FILES["onnx"]}: calibrated and compared on '
        'the images of this folder, which has a folder for each class',
    )
    parser.add_argument(
        '--max-drop',
        type=points,
        metavar='POINTS',
        help='keep it only if its top-1 accuracy is lower by at most so many points (default: 1); none: '
        'keep it anyway, also if the folder does not tell the classes',
    )
    parser.add_argument(
        '--reparameterise',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='merge the branches of RepVGG, MobileOne and the like (default: yes)',
    )
    parser.add_argument(
        '--input-size',
        nargs=2,
        type=cli.whole_number(),
        metavar=('HEIGHT', 'WIDTH'),
        help='of the images, where neither test images nor the test pipeline tell it',
    )
    parser.add_argument(
        '--metrics',
        metavar='FILE',
        help='for the model card: JSON of "python -m mmkdlayer test ... --out FILE"',
    )
    parser.add_argument(
        '--license', default='unknown', help='for the model card: licence of the weights'
    )
    cli.add_common_options(parser, launcher=False, checkpoint=True)
    return parser.parse_args()


def points(text: str) -> float:
    """Points of accuracy; "none" is infinity."""
    try:
        value = math.inf if text == 'none' else float(text)
        if text == 'none' or 0 <= value <= 100:
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f'expected a number from 0 to 100, or none, but got {text!r}')


def main() -> None:
    """Export."""
    args = parse_args()
    with cli.report_errors(args.debug):
        if args.prune_images is not None and not args.prune_templates:
            raise ConfigError(f'--prune-images {args.prune_images} expects --prune-templates DATA.')
        if args.max_drop is not None and not args.int8:
            raise ConfigError('--max-drop POINTS expects --int8 DATA beside it.')
        cfg = cli.load_config(args)
        if args.prune_templates and not os.path.isdir(args.prune_templates):
            cli.check_data(cfg, (f'{args.prune_templates}_dataloader',))
        cli.check_writable(args.out)
        options = ExportOptions(
            ema=args.ema,
            fold=args.fold,
            prune_templates=args.prune_templates,
            prune_images=args.prune_images,
            formats=tuple(name for name in FILES if getattr(args, name)),
            int8=args.int8,
            max_drop=1.0 if args.max_drop is None else args.max_drop,
            licence=args.license,
            metrics=read_metrics(args.metrics) if args.metrics else {},
            reparameterise=args.reparameterise,
            input_size=tuple(args.input_size) if args.input_size else None,
            config_as_given=args.config_as_given,
        )
        written = export_student(cfg, args.checkpoint, args.out, options)
        print(f'config: {written["config"]}\nweights: {written["weights"]}')
        print(f'model card: {written["card"]}')
        for check in written['checks']:
            print(check)


def read_metrics(path: str | os.PathLike) -> dict[str, Any]:
    """Metrics that ``python -m mmkdlayer test --out`` wrote.

    Raises:
        ConfigError: It is no JSON file with an object of numbers.
    """
    try:
        metrics = parse_json(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f'Metrics {path}: expected the JSON file of "python -m mmkdlayer test ... --out FILE", but '
            f'it cannot be read ({error}).'
        ) from error
    if not isinstance(metrics, dict) or not all(
        isinstance(value, (int, float)) for value in metrics.values()
    ):
        raise ConfigError(f'Metrics {path}: expected an object of numbers, but found {metrics!r}.')
    return metrics


if __name__ == '__main__':
    main()
