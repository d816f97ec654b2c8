"""A check of image files: an error that names the bad ones, or data sets without them."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.fileio import list_from_file
from mmpretrain.registry import TRANSFORMS
from tqdm import tqdm

from mmkdlayer.atomic import replacing
from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.image_files import why_bad
from mmkdlayer.type_names import type_name

from .data_sets import DataSet, is_local

#: Seconds that the check of headers may take; then it says how far it came.
PATIENCE = 60.0
THREADS = 16
CHUNK = 64
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


def check_images(cfg: Config, data_sets: list[DataSet], args: argparse.Namespace) -> None:
    """Check the images as the options ask for, and leave bad ones out of the config's data sets.

    A data set without some of its images becomes a list of the others, in the work dir.

    Raises:
        ConfigError: The options contradict each other.
        DataError: There are bad images, and they are not to be left out; or what
            :func:`find_bad_images` raises.
    """
    skip: bool = args.skip_bad_images
    # What is left out once is left out in a resumed training too.
    how = args.check_images or ('none' if cfg.get('resume') and not skip else 'headers')
    if skip and how == 'none':
        raise ConfigError(
            '--skip-bad-images leaves out what a check finds, but --check-images is none. Leave one of '
            'the two out.'
        )
    # All processes leave out the same images, so each of them checks all.
    if how == 'none' or not (skip or is_main_process()):
        return
    limit = None if skip or how == 'full' else PATIENCE
    bad = find_bad_images(data_sets, how == 'full', limit, _num_classes(cfg))
    if not bad:
        return
    listed = '; '.join(f'{path} ({reason})' for path, reason in list(bad.items())[:NAMED])
    if len(bad) > NAMED:
        file = Path(cfg.work_dir, 'bad_images.txt')
        _write(file, [f'{path}\t{reason}' for path, reason in bad.items()])
        listed += f'; and {len(bad) - NAMED} more, see {file}'
    count = f'{len(bad)} images' if len(bad) > 1 else '1 image'
    if not skip:
        raise DataError(
            f'{count} can not be read: {listed}. Repair or remove what is named, or leave it out with '
            '--skip-bad-images.'
        )
    _say(f'{count} left out: {listed}')
    for data in data_sets:
        if any(path in bad for path in _paths(data)):
            _leave_out(data, bad, Path(cfg.work_dir, 'image_lists', f'{data.path}.txt'))


def find_bad_images(
    data_sets: list[DataSet], full: bool, limit: float | None, num_classes: int | None = None
) -> dict[str, str]:
    """Why files can't be read, by path; what data sets leave out by themselves is said.

    Headers and ends of files tell what is empty, cut short or no image; what looks wrong, and in a
    full check every file, is decoded as the data set's own pipeline decodes it.

    Args:
        data_sets: As opened; others than folders and lists of local files are passed over.
        full: Decode every file.
        limit: Seconds after which the check ends, if not None.
        num_classes: What the labels must be below, if not None.

    Raises:
        DataError: A data set has no images, or a list with a line that is none, or a label that no
            class has.
    """
    loaders: dict[str, Callable[[str], Any]] = {}
    for data in data_sets:
        load = _loader(data)
        if load is not None:
            _read_list(data)
            if num_classes:
                _check_labels(data, num_classes)
            loaders.update(dict.fromkeys(_paths(data), load))
    files = list(loaders.items())
    chunks = [files[first : first + CHUNK] for first in range(0, len(files), CHUNK)]
    bad: dict[str, str] = {}
    start, done = time.monotonic(), 0
    bar = tqdm(total=len(files), desc='checking images', unit='image', delay=2, mininterval=1)
    with bar, ThreadPoolExecutor(THREADS) as pool:
        try:
            for chunk, reasons in zip(chunks, pool.map(lambda c: _why_bad(c, full), chunks)):
                bad.update((path, why) for (path, _), why in zip(chunk, reasons) if why)
                done += len(chunk)
                bar.update(len(chunk))
                if limit is not None and time.monotonic() - start > limit:
                    break
        finally:
            pool.shutdown(cancel_futures=True)
    if done < len(files):
        _say(
            f'{done:,} of {len(files):,} images were checked in {limit:.0f} seconds; --check-images '
            'full checks all of them.'
        )
    return bad


def _paths(data: DataSet) -> Iterator[str]:
    """Paths of the images of a data set whose list is read."""
    return (str(info['img_path']) for info in data.opened.data_list) if data.opened else iter(())


def _why_bad(files: list[tuple[str, Callable[[str], Any]]], full: bool) -> list[str]:
    return [why_bad(path, load, full) for path, load in files]


def _num_classes(cfg: Config) -> int | None:
    """Classes of the network that is trained or tested, where its head says so."""
    model = cfg.get('model') or {}
    head = (model.get('architecture') or model).get('head')
    number = head.get('num_classes') if isinstance(head, dict) else None
    return number if isinstance(number, int) else None


def _loader(data: DataSet) -> Callable[[str], Any] | None:
    """The step that reads a file in the data set's own pipeline; None where that is no local file."""
    if data.opened is None or not is_local(data.place):
        return None
    for step in data.config.get('pipeline') or ():
        if isinstance(step, dict) and type_name(step.get('type')) == 'LoadImageFromFile':
            options = step.get('backend_args') or step.get('file_client_args') or {}
            if options.get('backend') in (None, 'local', 'disk'):
                transform = TRANSFORMS.build(step)
                return lambda path: transform(dict(img_path=path))
    return None


def _read_list(data: DataSet) -> None:
    """Read the list of images, as the host does; say which files it leaves out."""
    opened: Any = data.opened
    failure = None
    try:
        opened.full_init()
    except RuntimeError as error:
        failure = error
    except ValueError as error:
        for number, line in enumerate(list_from_file(data.place), start=1):
            name, _, label = line.strip().rpartition(' ')
            if not (name and label.lstrip('-').isdigit()):
                raise DataError(
                    f'{data.place}, line {number}: expected a path, a space and a label, a whole '
                    f'number from 0, but found {line[:80]!r}.'
                ) from error
        raise
    others = _left_out(data, set() if failure else set(_paths(data)))
    if failure:
        raise DataError(
            f'{data.path}: found no image in the folders of {data.place}. {others}'
        ) from failure
    if others:
        _say(f'{data.path} leaves out files: {others}')


def _left_out(data: DataSet, listed: set[str]) -> str:
    """A sentence about the files in the folders of a data set that it does not list, but hidden ones."""
    opened: Any = data.opened
    others: dict[str, list[str]] = defaultdict(list)
    walk = () if opened.ann_file else os.walk(opened.img_prefix, followlinks=True)  # as the host
    for folder, _, names in walk:
        for name in names:
            path = os.path.join(folder, name)
            if path not in listed and not name.startswith('.'):
                others[os.path.splitext(name)[1].lower() or 'without extension'].append(path)
    if not others:
        return ''
    found = ', '.join(f'{len(files)} {kind} (such as {files[0]})' for kind, files in others.items())
    known = ', '.join(sorted(opened.extensions))
    return f'{found}. It reads {known} in the folders of classes; its "extensions" adds others.'


def _check_labels(data: DataSet, num_classes: int) -> None:
    opened: Any = data.opened
    for info in opened.data_list if opened.with_label else ():
        if not 0 <= info['gt_label'] < num_classes:
            raise DataError(
                f"{data.path}: the label of {info['img_path']} is {info['gt_label']}, but the model's "
                f'head has num_classes={num_classes}, so labels must be 0 to {num_classes - 1}.'
            )


def _leave_out(data: DataSet, bad: dict[str, str], file: Path) -> None:
    """Turn a data set's config into one of a list, without the bad images."""
    opened: Any = data.opened
    lines = []
    for info in opened.data_list:
        # The host joins both again; what is not below the prefix is an absolute path.
        name = str(info['img_path']).removeprefix(os.path.join(opened.img_prefix, ''))
        if info['img_path'] in bad:
            continue
        if name != name.strip() or '\n' in name:
            raise DataError(
                f'--skip-bad-images: the name {name!r} begins or ends with a space, or has a line '
                'break, so it can not be in a list of images. Rename it.'
            )
        lines.append(f'{name} {info["gt_label"]}' if opened.with_label else name)
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


def _say(text: str) -> None:
    print(f'note: {text}', file=sys.stderr, flush=True)
