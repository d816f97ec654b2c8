#!/usr/bin/env python
"""Write the student as a folder of its own: config and weights, no teacher, no mmrazor."""

from __future__ import annotations

import argparse

from mmengine.config import DictAction

import mmkdlayer  # noqa: F401  (makes the host libraries work, registers this plugin)
from mmkdlayer.deploy import export_student
from mmkdlayer.engine import cli


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='training config')
    parser.add_argument('checkpoint', help='training checkpoint')
    parser.add_argument('--out', required=True, help='folder to write')
    parser.add_argument('--debug', action='store_true', help='show tracebacks of expected errors')
    cli.add_common_options(parser, DictAction, launcher=False)
    return parser.parse_args()


def main() -> None:
    """Export."""
    args = parse_args()
    with cli.errors_for_people(args.debug):
        cfg = cli.load_config(args)
        cli.check_writable(args.out)
        written = export_student(cfg, args.checkpoint, args.out)
        print(f'config: {written["config"]}\nweights: {written["weights"]}')
        print(f'largest difference of logits to the training student: {written["difference"]:.2g}')


if __name__ == '__main__':
    main()
