"""What becomes of images that can't be read: an error that names them, or data sets without them."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmkdlayer.atomic import replacing
from mmkdlayer.engine.launch import LAUNCHERS
from mmkdlayer.errors import DataError

from .data_sets import DataSet
from .images import Bad, check_images, paths_of

#: Bad images that a message names; a file has all of them.
NAMED = 10


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that read many images."""
    parser.add_argument(
        '--check-images',
        choices=('headers', 'full', 'none'),
        help='look at the image files first: at begin and end of each (for a minute at most), decode '
        'each, or not at all (default: headers, and none with --resume)',
    )
    parser.add_argument(
        '--skip-bad-images', action='store_true', help='leave out the images that can not be read'
    )


def handle_images(cfg: Config, data_sets: list[DataSet], args: argparse.Namespace) -> None:
    """Check the images as the options ask for, and leave bad ones out of the config's data sets.

    A data set without some of its images becomes a list of the others, in the work dir.

    Raises:
        DataError: There are bad images, and they are not to be left out.
    """
    how = args.check_images or ('none' if cfg.get('resume') else 'headers')
    if args.skip_bad_images and how == 'none':
        how = 'headers'  # what is left out once is left out in a resumed training too
    rank, _, _ = LAUNCHERS.get(cfg.get('launcher', 'none'), ('', '', ''))
    first = os.environ.get(rank, '0') == '0'
    # All processes leave out the same images, so each of them checks all.
    if how == 'none' or not (first or args.skip_bad_images):
        return
    patience: dict[str, Any] = dict(patience=float('inf')) if args.skip_bad_images else {}
    num_classes = _num_classes(cfg.get('model') or {})
    bad = check_images(data_sets, how == 'full', num_classes=num_classes, **patience)
    if not bad:
        return
    listed = '; '.join(f'{path} ({reason})' for path, reason in list(bad.items())[:NAMED])
    if len(bad) > NAMED:
        file = Path(cfg.work_dir, 'bad_images.txt')
        _write(file, [f'{path}\t{reason}' for path, reason in bad.items()])
        listed += f'; and {len(bad) - NAMED} more, see {file}'
    count = f'{len(bad)} images' if len(bad) > 1 else '1 image'
    if not args.skip_bad_images:
        raise DataError(
            f'{count} can not be read: {listed}. Repair or remove what is named, or leave it out with '
            '--skip-bad-images.'
        )
    print(f'note: {count} left out: {listed}', file=sys.stderr, flush=True)
    for data in data_sets:
        if any(path in bad for path in paths_of(data)):
            _leave_out(data, bad, Path(cfg.work_dir, 'image_lists', f'{data.path}.txt'))


def _num_classes(model: Any) -> int | None:
    """Classes of the network that is trained or tested, where its head says so."""
    head = (model.get('architecture') or model).get('head')
    number = head.get('num_classes') if isinstance(head, dict) else None
    return number if isinstance(number, int) else None


def _leave_out(data: DataSet, bad: Bad, file: Path) -> None:
    """Turn a data set's config into one of a list, without the bad images."""
    opened: Any = data.opened
    lines = []
    for info in opened.data_list:
        path = str(info['img_path'])
        if path in bad:
            continue
        if path.startswith(opened.img_prefix):
            path = path[len(opened.img_prefix) :].lstrip('/')
        if path != path.strip() or '\n' in path:
            raise DataError(
                f'--skip-bad-images: the name {path!r} begins or ends with a space, or has a line '
                'break, so it can not be in a list of images. Rename it.'
            )
        lines.append(f'{path} {info["gt_label"]}' if opened.with_label else path)
    if not lines:
        raise DataError(f'{data.path}: no image of {data.place} can be read.')
    _write(file, lines)
    data.config['ann_file'] = str(file.absolute())
    if data.names:
        data.config['classes'] = data.names


def _write(file: Path, lines: list[str]) -> None:
    with replacing(file) as partial:
        text = '\n'.join(lines) + '\n'
        partial.write_text(text, encoding='utf-8', errors='surrogateescape')
