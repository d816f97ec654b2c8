#!/usr/bin/env python
"""Write the config of any pair of networks for a folder of images: ROOT/train/<class>/*.jpg.

Finds out where the KD layers go and where the teacher is read; where it can't tell, it lists candidates.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from shlex import quote

from mmengine.registry import init_default_scope

import cli
import mmkdlayer  # noqa: F401  (makes the host libraries work, registers this plugin)
from configuring import Pair, PairOptions, make_config
from configuring.recipes import num_epochs
from configuring.template import teacher_schedule_of


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    network = 'a model name of mmpretrain, "mmpretrain::folder/config.py", or a config file'
    parser.add_argument('teacher', help=network)
    parser.add_argument('student', help='the same')
    parser.add_argument(
        '--data', required=True, metavar='ROOT', help='holds train/<class>/ and val/ or test/'
    )
    parser.add_argument('--out', required=True, metavar='FILE', help='the config to write')
    parser.add_argument('--teacher-ckpt', metavar='FILE', help="the teacher's weights")
    parser.add_argument(
        '--teacher-out', metavar='FILE', help='also write a config that trains the teacher'
    )
    parser.add_argument(
        '--baseline-out', metavar='FILE', help='also write a config that trains the student alone'
    )
    parser.add_argument(
        '--dkd-out', metavar='FILE', help='also write a config of DKD alone, without KD layers'
    )
    parser.add_argument(
        '--teacher-init',
        metavar='FILE',
        help='weights for other classes that this training starts from, or "none" (default: those that '
        'mmpretrain publishes for the model, downloaded when it starts)',
    )
    parser.add_argument(
        '--letkd1', action='store_true', help='the penultimate layer alone, no intermediate one'
    )
    parser.add_argument('--dkd', action='store_true', help='DKD of the logits beside the KD layers')
    places = parser.add_argument_group(
        'places', 'found by a forward pass unless given; MODULE:INDEX is one output of several'
    )
    for name, text in (
        ('inter', "student module: after the first block of the student's last stage"),
        ('penult', "student module: the student's last map, or tokens, before pooling"),
        ('teacher-inter', 'teacher module that supervises the intermediate layer'),
        ('teacher-penult', 'teacher module that supervises the penultimate layer'),
    ):
        places.add_argument(f'--{name}', metavar='MODULE', help=text)
    sizes = parser.add_argument_group('sizes and schedule')
    sizes.add_argument(
        '--image-size',
        type=cli.whole_number(),
        help="side in pixels (default: that of the student's config)",
    )
    sizes.add_argument(
        '--num-subclasses',
        type=cli.whole_number(),
        default=8,
        help='sub-classes a class (default: 8)',
    )
    sizes.add_argument(
        '--num-centroids', type=cli.whole_number(), help='default: 4096, fewer for few images'
    )
    sizes.add_argument(
        '--max-extra-flops',
        type=percentage,
        metavar='5%',
        help="what the folded KD layers may add to the student's multiply-adds: chooses fewer "
        'centroids and sub-classes (the two options above are then the most), and alpha 0 for a '
        'layer that does not fit',
    )
    sizes.add_argument(
        '--epochs', type=cli.whole_number(), help='default: 240 for small images, else 100'
    )
    sizes.add_argument(
        '--batch-size', type=cli.whole_number(), help='default: 64 for small images, else 32'
    )
    sizes.add_argument(
        '--lr', dest='rate', type=cli.positive_number, help='default: published, for this batch'
    )
    parser.add_argument('--force', action='store_true', help='replace files that are there')
    parser.add_argument('--debug', action='store_true', help='show tracebacks of expected errors')
    return parser.parse_args()


def percentage(text: str) -> float:
    """A number of percent, 0 or more, with its sign: a share such as 0.05 would be mistaken for it."""
    try:
        value = float(text[:-1])
        if text.endswith('%') and 0 <= value < math.inf:
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f'expected a percentage such as 5%, but got {text!r}')


def main() -> None:
    """Write the config."""
    given = vars(parse_args())
    with cli.report_errors(given.pop('debug')):
        init_default_scope('mmpretrain')
        print('Running both networks, then the config: half a minute on two cores.', flush=True)
        print(report(make_config(PairOptions(**given))))


def report(pair: Pair) -> str:
    """What was found and written, and the commands that come next."""
    options = pair.options
    lines = [f'{layer}: {places}' for layer, places in pair.places.items()]
    lines += [*pair.reasons, *(f'Hint: {hint}' for hint in pair.hints)]
    lines += ['', f'Wrote {" and ".join(options.outputs)}.']
    checkpoint = 'FILE'
    if options.teacher_out:
        schedule = teacher_schedule_of(pair).get('train_cfg') or {}
        epochs = schedule.get('max_epochs') or num_epochs(pair.image_size, options.epochs)
        start = pair.teacher_start
        lines += [
            f'The teacher is fine-tuned from {start}.'
            if start
            else 'The teacher starts from scratch.'
        ]
        if start and '://' in start:
            lines += [
                'They are downloaded when it starts; --teacher-init FILE --force does without.'
            ]
        checkpoint = quote(f'work_dirs/{Path(options.teacher_out).stem}/epoch_{epochs}.pth')
        lines += [f'Train the teacher: python -m mmkdlayer train {quote(options.teacher_out)}']
    elif pair.checkpoint is None:
        lines += [
            'The teacher has no weights for these classes, and an untrained one has nothing to teach.',
            'Give weights that you have as FILE below, or write a config that trains it, with',
            '--teacher-out TEACHER_FILE --force.',
        ]
    option = '' if pair.checkpoint else f' --cfg-options model.teacher_ckpt={checkpoint}'
    lines += [f'Train the student: python -m mmkdlayer train {quote(options.out)}{option}']
    if options.dkd_out:
        lines += [f'Train it by DKD: python -m mmkdlayer train {quote(options.dkd_out)}{option}']
    if options.baseline_out:
        lines += [f'Train it alone: python -m mmkdlayer train {quote(options.baseline_out)}']
    if option:
        lines += [
            f'The option is for one command; --teacher-ckpt {checkpoint} --force writes the config',
            'again, with the checkpoint in it.',
        ]
    return '\n'.join(lines)


if __name__ == '__main__':
    main()
