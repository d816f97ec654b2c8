#!/usr/bin/env python
"""Write one HTML page on what a student with KD layers has learned: templates, decisions, costs."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

import cli
import mmkdlayer  # noqa: F401  (makes the host libraries work, registers this plugin)
from mmkdlayer.checkpoints import read_student_weights
from mmkdlayer.deploy import check_trained_config
from mmkdlayer.engine.allocator import return_memory
from mmkdlayer.report import (
    Networks,
    ReportOptions,
    agreement_before,
    compare,
    loader_key,
    open_networks,
    write_report,
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage='%(prog)s CONFIG CHECKPOINT --out DIR [options]\n'
        '       %(prog)s --compare DIR DIR [DIR ...] --out DIR',
    )
    parser.add_argument(
        'config', nargs='?', help='training config, or student.py of an exported student'
    )
    parser.add_argument('checkpoint', nargs='?', help='training checkpoint, or student.pth')
    parser.add_argument(
        '--compare',
        nargs='+',
        metavar='DIR',
        help='put the students of several reports on the same images side by side',
    )
    parser.add_argument(
        '--out', required=True, help='folder to write; the page is index.html in it'
    )
    parser.add_argument(
        '--images',
        type=cli.whole_number(),
        metavar='N',
        help='at most N of the validation images, evenly spaced (default: all)',
    )
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='classes that are shown with pictures (default: all, or 100 of them, evenly spaced)',
    )
    parser.add_argument(
        '--patches',
        type=cli.whole_number(),
        default=5,
        metavar='N',
        help='regions that are shown of each sub-class and template (default: 5)',
    )
    parser.add_argument(
        '--decisions',
        metavar='DIR',
        help='folder of the decision files (default: "decisions" beside the checkpoint)',
    )
    parser.add_argument(
        '--no-teacher', action='store_true', help='do not run the teacher, nor show what it sees'
    )
    parser.add_argument(
        '--probe-images',
        type=cli.whole_number(0),
        default=5000,
        metavar='N',
        help='training and validation images of the geometry probe, at most; 0: leave it out '
        '(default: 5000)',
    )
    parser.add_argument(
        '--also',
        nargs=2,
        action='append',
        default=[],
        metavar=('CONFIG', 'CHECKPOINT'),
        help='another student for the geometry probe, such as one with alpha=0 (may be repeated)',
    )
    cli.add_common_options(parser, launcher=False, checkpoint=True)
    args = parser.parse_args()
    if args.compare:
        # Without defaults, what is there was stated.
        stated = vars(parser.parse_args(namespace=argparse.Namespace(**dict.fromkeys(vars(args)))))
        unread = [
            name.upper() if name in ('config', 'checkpoint') else '--' + name.replace('_', '-')
            for name, value in stated.items()
            if value is not None and name not in ('compare', 'out', 'debug')
        ]
        if unread:
            parser.error(
                f'--compare reads reports that are written already: leave out {", ".join(unread)}'
            )
    elif not args.checkpoint:
        parser.error('expected CONFIG and CHECKPOINT, or --compare DIR DIR')
    elif args.also and not args.probe_images:
        parser.error(
            '--also names students of the geometry probe, which --probe-images 0 leaves out'
        )
    return args


def main() -> None:
    """Write the report."""
    args = parse_args()
    with cli.report_errors(args.debug):
        if args.compare:
            cli.check_writable(args.out)
            print(f'report: {compare(args.compare, args.out)}')
            return
        cfg = cli.load_config(args)
        cli.check_writable(args.out)
        return_memory()
        # mmengine would list each weight that it initialises.
        MMLogger.get_instance('mmkdlayer_report').setLevel('WARNING')
        state, meta = read_checked(args, cfg, args.checkpoint)
        work_dir = Path(args.checkpoint).parent
        torch.manual_seed(0)
        networks = open_networks(
            cfg, meta, args.decisions or work_dir / 'decisions', teacher=not args.no_teacher
        )
        for note in networks.notes:
            print(f'note: {note}')
        before = agreement_before(networks, cfg)
        networks.load(state, f'Checkpoint {args.checkpoint}')
        options = ReportOptions(
            args.images,
            args.classes,
            patches=args.patches,
            probe_images=args.probe_images,
            work_dir=work_dir,
        )
        # Folders mean nothing to others.
        facts = {key: os.path.basename(getattr(args, key)) for key in ('config', 'checkpoint')}
        others = [open_other(args, *pair) for pair in args.also]
        name = Path(args.config).stem
        path = write_report(networks, cfg, args.out, name, facts, options, before, others)
        print(f'report: {path} ({path.stat().st_size / 1e6:.1f} MB)')


def read_checked(
    args: argparse.Namespace, cfg: Config, checkpoint: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The weights of a checkpoint and its meta data, which must be those of a config and its data."""
    state, meta = read_student_weights(checkpoint, sha256=cfg.get('weights_sha256'))
    check_trained_config(cfg, meta, checkpoint, refuse=not args.config_as_given)
    cli.check_data(cfg, (loader_key(cfg),), checkpoint, meta)
    return state, meta


def open_other(
    args: argparse.Namespace, config: str, checkpoint: str
) -> tuple[str, Networks, Config]:
    """Another student for the probe: its name, its networks and its config."""
    cfg = cli.load_config(argparse.Namespace(**{**vars(args), 'config': config}))
    state, meta = read_checked(args, cfg, checkpoint)
    networks = open_networks(cfg, meta, Path(checkpoint).parent / 'decisions', teacher=False)
    networks.load(state, f'Checkpoint {checkpoint}')
    return Path(config).stem, networks, cfg


if __name__ == '__main__':
    main()
