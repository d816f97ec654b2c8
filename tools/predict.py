#!/usr/bin/env python
"""Class names and scores of images, by a student: a CSV file with the columns file, class and score."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path

import torch
from mmengine.model import BaseModel
from tqdm import tqdm

import cli
import mmkdlayer  # noqa: F401  (makes the host libraries work, registers this plugin)
from mmkdlayer.atomic import replacing
from mmkdlayer.checkpoints import read_student_weights
from mmkdlayer.deploy import check_trained_config, find_images, predict_files, student_config
from mmkdlayer.deploy.exported_student import EXPORTED, build_student
from mmkdlayer.errors import ConfigError

#: Exit code where some images could not be read.
SKIPPED = 3


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage='%(prog)s (DIR | CONFIG CHECKPOINT) IMAGES [IMAGES ...] [options]',
        epilog='Exit code 3: some images could not be read; they are named, and not in the file.',
    )
    parser.add_argument(
        'student', help='folder of an exported student; or a training config, then its checkpoint'
    )
    parser.add_argument(
        'images', nargs='+', help='image files, and folders of them with their sub-folders'
    )
    parser.add_argument('--out', default='predictions.csv', help='default: predictions.csv')
    parser.add_argument(
        '--top',
        type=cli.whole_number(),
        metavar='K',
        help='the K best classes of each image (default: what the student decides for)',
    )
    parser.add_argument('--batch-size', type=cli.whole_number(), default=32)
    parser.add_argument(
        '--workers', type=cli.whole_number(0), default=0, help='processes that read images'
    )
    parser.add_argument('--device', help='default: a GPU if there is one')
    cli.add_common_options(parser, launcher=False, checkpoint=True)
    return parser.parse_args()


def main() -> None:
    """Predict."""
    args = parse_args()
    with cli.report_errors(args.debug):
        cli.check_out_file(args.out)
        student = open_student(args)
        files, others = find_images(args.images)
        if others:
            kinds = ', '.join(f'{count} of {kind}' for kind, count in sorted(others.items()))
            print(f'left out, since they are no images: {kinds}', file=sys.stderr)
        skipped = write_predictions(student, files, args)
        print(f'{args.out}: {len(files) - skipped} of {len(files)} images', file=sys.stderr)
    if skipped:
        sys.exit(SKIPPED)


def open_student(args: argparse.Namespace) -> BaseModel:
    """The student that the command line names; takes the checkpoint from the front of ``args.images``.

    Raises:
        ConfigError: Its config is not there, or is not that of the checkpoint.
        CheckpointError: Its weights can't be read, or do not fit.
    """
    device = choose_device(args.device)
    if os.path.isdir(args.student):
        args.config, checkpoint = (os.path.join(args.student, name) for name in EXPORTED)
    else:
        args.config, checkpoint = args.student, args.images.pop(0)
    if not args.images:
        raise ConfigError(
            f'Expected images after CONFIG and CHECKPOINT, or after the folder of an exported student; '
            f'{args.student} is no folder.'
        )
    cfg = cli.load_config(args)
    state, meta = read_student_weights(checkpoint, sha256=cfg.get('weights_sha256'))
    check_trained_config(cfg, meta, checkpoint, refuse=not args.config_as_given)
    return build_student(student_config(cfg), state, meta, f'Checkpoint {checkpoint}').to(device)


def choose_device(name: str | None) -> torch.device:
    """The device of this name; without a name a GPU, if there is one.

    Raises:
        ConfigError: There is no such device here.
    """
    try:
        device = torch.device(name or ('cuda' if torch.cuda.is_available() else 'cpu'))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f'--device {name}: there is no such device here ({str(error).splitlines()[0][:100]}).'
        ) from error
    return device


def write_predictions(student: BaseModel, files: list[str], args: argparse.Namespace) -> int:
    """Write the CSV file; images that can't be read are named. Returns how many they are."""
    skipped = 0
    with (
        replacing(args.out) as path,
        Path(path).open('w', newline='', encoding='utf-8', errors='surrogateescape') as file,
    ):
        table = csv.writer(file)
        table.writerow(('file', 'class', 'score'))
        found = predict_files(student, files, args.top, args.batch_size, args.workers)
        for prediction in tqdm(found, total=len(files), unit='image', desc='predicting'):
            if prediction.problem:
                skipped += 1
                name = prediction.file.encode('utf-8', 'replace').decode()
                tqdm.write(f'skipped {name}: {prediction.problem}', file=sys.stderr)
                continue
            # With a multi-label head an image can have no class.
            for name, score in prediction.classes or [('', '')]:
                table.writerow((prediction.file, name, score))
    return skipped


if __name__ == '__main__':
    main()
