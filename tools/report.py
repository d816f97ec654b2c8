#!/usr/bin/env python
"""Write one HTML page on what a student with KD layers has learned: templates, decisions, costs."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

import cli
import mmkdlayer  # noqa: F401  (makes the host libraries work, registers this plugin)
from mmkdlayer.checkpoints import read_student_weights
from mmkdlayer.deploy import check_trained_config
from mmkdlayer.errors import ConfigError
from mmkdlayer.report import (
    Networks,
    ReportOptions,
    compare,
    examine,
    measure,
    open_networks,
    probe_geometry,
    write_page,
)
from mmkdlayer.report.collecting import collect
from mmkdlayer.report.images import Images

#: Images on which the agreement before the training is measured.
BEFORE = 500


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
    if args.compare and args.config:
        parser.error('--compare takes folders of reports alone, no CONFIG and CHECKPOINT')
    if not args.compare and not args.checkpoint:
        parser.error('expected CONFIG and CHECKPOINT, or --compare DIR DIR')
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
        key = 'val_dataloader' if cfg.get('val_dataloader') else 'test_dataloader'
        if not cfg.get(key):
            raise ConfigError(
                f'Config {args.config}: expected val_dataloader or test_dataloader, whose images a '
                'report shows, but it has neither.'
            )
        cli.check_writable(args.out)
        # mmengine would list each weight that it initialises.
        MMLogger.get_instance('mmkdlayer_report').setLevel('WARNING')
        state, meta = read_student_weights(args.checkpoint, sha256=cfg.get('weights_sha256'))
        check_trained_config(cfg, meta, args.checkpoint, refuse=not args.config_as_given)
        cli.check_data(cfg, (key,), args.checkpoint, meta)
        decisions = args.decisions or Path(args.checkpoint).parent / 'decisions'
        torch.manual_seed(0)
        networks = open_networks(cfg, meta, decisions, teacher=not args.no_teacher)
        for note in networks.notes:
            print(f'note: {note}')
        before = {}
        if networks.supervised:
            found = collect(networks, Images(networks, cfg[key], BEFORE), only_agreement=True)
            before = {name: layer.agreement for name, layer in found.layers.items()}
        networks.load(state, f'Checkpoint {args.checkpoint}')
        images = Images(networks, cfg[key], args.images)
        options = ReportOptions(args.classes, patches=args.patches)
        findings, view = examine(networks, images, options, before)
        view.update(measure(networks, images, Path(args.checkpoint).parent))
        notes = networks.notes
        if args.probe_images:
            others = [open_other(args, config, file, key) for config, file in args.also]
            students = [(Path(args.config).stem, networks, cfg), *others]
            view['geometry'], more = probe_geometry(students, key, args.probe_images)
            notes = [*notes, *more]
        path = write_page(args.out, Path(args.config).stem, facts(args, key), notes, findings, view)
        print(f'report: {path} ({path.stat().st_size / 1e6:.1f} MB)')


def open_other(
    args: argparse.Namespace, config: str, checkpoint: str, key: str
) -> tuple[str, Networks, Config]:
    """Another student for the probe: its name, its networks and its config."""
    cfg = cli.load_config(argparse.Namespace(**{**vars(args), 'config': config}))
    state, meta = read_student_weights(checkpoint, sha256=cfg.get('weights_sha256'))
    check_trained_config(cfg, meta, checkpoint, refuse=not args.config_as_given)
    cli.check_data(cfg, (key,), checkpoint, meta)
    networks = open_networks(cfg, meta, Path(checkpoint).parent / 'decisions', teacher=False)
    networks.load(state, f'Checkpoint {checkpoint}')
    return Path(config).stem, networks, cfg


def facts(args: argparse.Namespace, key: str) -> dict[str, str]:
    """What the report is of; folders mean nothing to others."""
    return {
        'config': os.path.basename(args.config),
        'checkpoint': os.path.basename(args.checkpoint),
        'data': f'{key} of the config',
    }


if __name__ == '__main__':
    main()
