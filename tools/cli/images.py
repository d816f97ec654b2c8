"""A check of image files before training: which ones can't be read, and which ones are left out."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

from mmengine.fileio import list_from_file
from mmpretrain.registry import TRANSFORMS
from tqdm import tqdm

from mmkdlayer.errors import DataError
from mmkdlayer.image_files import why_bad
from mmkdlayer.type_names import type_name

from .data_sets import DataSet, is_local

#: Seconds that the check of headers may take; then it says how far it came.
PATIENCE = 60.0
THREADS = 16
CHUNK = 64
HIDDEN = 'hidden'
Bad = dict[str, str]  # reason by path


def check_images(
    data_sets: Sequence[DataSet],
    full: bool,
    patience: float = PATIENCE,
    num_classes: int | None = None,
) -> Bad:
    """Look at the image files of data sets of files; what they leave out is said.

    Headers and ends of files tell what is empty, cut short or no image; what looks wrong, and in a
    full check every file, is decoded as the data set's own pipeline decodes it.

    Args:
        data_sets: As opened; others than folders and lists of local files are passed over.
        full: Decode every file.
        patience: Seconds, for a check of headers.
        num_classes: What the labels must be below; None for any.

    Returns:
        Why a file can't be read, by path.

    Raises:
        DataError: A data set has no images, or a list with a line that is none, or a label that no
            class has.
    """
    readers: dict[str, Callable[[str], Any]] = {}
    for data in data_sets:
        load = _loader(data)
        if load is not None:
            _read_list(data)
            _check_labels(data, num_classes)
            readers.update(dict.fromkeys(paths_of(data), load))
    bad: Bad = {}
    paths = iter(readers.items())
    chunks = iter(lambda: list(itertools.islice(paths, CHUNK)), [])
    start, done = time.monotonic(), 0
    bar = tqdm(total=len(readers), desc='checking images', unit='image', delay=2, mininterval=1)
    with bar, ThreadPoolExecutor(THREADS) as pool:
        # One round of chunks at a time: no more is done after an interruption.
        for group in iter(lambda: list(itertools.islice(chunks, THREADS)), []):
            for chunk, found in zip(group, pool.map(lambda c: _check_files(c, full), group)):
                bad.update(found)
                done += len(chunk)
                bar.update(len(chunk))
            if not full and time.monotonic() - start > patience:
                break
    if done < len(readers):
        _say(
            f'{done:,} of {len(readers):,} images were checked in {patience:.0f} seconds; '
            '--check-images full checks all of them.'
        )
    return bad


def paths_of(data: DataSet) -> Iterator[str]:
    """Paths of the images of a data set whose list is read."""
    return (str(info['img_path']) for info in data.opened.data_list) if data.opened else iter(())


def _loader(data: DataSet) -> Callable[[str], Any] | None:
    """The step that reads a file in the data set's own pipeline; None where that is no local file."""
    if data.opened is None or not is_local(data.place):
        return None
    for step in data.config.get('pipeline') or ():
        if isinstance(step, dict) and type_name(step.get('type')) == 'LoadImageFromFile':
            backend = (step.get('backend_args') or step.get('file_client_args') or {}).get(
                'backend'
            )
            if backend in (None, 'local', 'disk'):
                transform = TRANSFORMS.build(step)
                return lambda path: transform(dict(img_path=path))
    return None


def _read_list(data: DataSet) -> None:
    """Read the list of images, as the host does; say what it leaves out."""
    opened: Any = data.opened
    others: dict[str, list[str]] = defaultdict(list)
    for reason, file in () if opened.ann_file else _look_around(opened, opened.img_prefix):
        others[reason].append(file)
    for folder in others.pop(HIDDEN, ()):
        _say(f'{data.path} reads the images in the hidden folder {folder} too.')
    listed = ', '.join(
        f'{len(files)} {reason} (such as {files[0]})'
        for reason, files in sorted(others.items(), key=lambda item: -len(item[1]))
    )
    advice = (
        f'The data set reads {", ".join(sorted(opened.extensions))}; its "extensions" adds others.'
    )
    if listed:
        _say(f'{data.path} leaves out files: {listed}. {advice}')
    try:
        opened.full_init()
    except RuntimeError as error:
        found = f'; there are {listed}. {advice}' if listed else '.'
        raise DataError(
            f'{data.path}: found no image in the folders of {data.place}{found}'
        ) from error
    except ValueError as error:
        for number, line in enumerate(list_from_file(data.place), start=1):
            label = line.strip().rsplit(' ', 1)[-1]
            if not label.lstrip('-').isdigit() or ' ' not in line.strip():
                raise DataError(
                    f'{data.place}, line {number}: expected a path, a space and a label, a whole '
                    f'number from 0, but found {line[:80]!r}.'
                ) from error
        raise


def _check_labels(data: DataSet, num_classes: int | None) -> None:
    counts = [num_classes or 0, len(data.names or ())]
    most = min(filter(None, counts), default=None)
    if most is None or data.opened is None or not data.opened.with_label:
        return
    owner = f'there are {most} classes'
    if most == num_classes:
        owner = f"the model's head has num_classes={most}"
    for info in data.opened.data_list:
        if not 0 <= info['gt_label'] < most:
            raise DataError(
                f'{data.path}: the label of {info["img_path"]} is {info["gt_label"]}, but {owner}, so '
                f'labels must be 0 to {most - 1}.'
            )


def _look_around(opened: Any, folder: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Why and which files the host leaves out, besides hidden ones; hidden folders, which it reads.

    The host too follows links to folders.
    """
    for entry in os.scandir(folder):
        if entry.name.startswith('.') and not entry.is_dir():
            continue
        if entry.is_dir():
            if entry.name.startswith('.'):
                yield HIDDEN, entry.path
            yield from _look_around(opened, entry.path, depth + 1)
        elif not entry.is_file():
            yield 'links to nothing', entry.path
        elif not opened.is_valid_file(entry.name):
            yield f'{os.path.splitext(entry.name)[1].lower() or "without extension"}', entry.path
        elif depth == 0 and opened.with_label:
            yield 'in no class folder', entry.path


def _check_files(files: list[tuple[str, Callable[[str], Any]]], full: bool) -> Bad:
    checked = ((path, why_bad(path, load, full)) for path, load in files)
    return {path: reason for path, reason in checked if reason}


def _say(text: str) -> None:
    print(f'note: {text}', file=sys.stderr, flush=True)
