#!/usr/bin/env python
"""Make the images of studies/photographs.py: a part of Tiny-ImageNet, as PNG files of 32x32.

    python studies/photographs_data.py TINY_IMAGENET OUT

TINY_IMAGENET is the unpacked archive (``train/CLASS/...``, and ``val`` with its ``val_annotations.txt``
or with a folder for each class). Of the first 100 classes by name, OUT gets ``train`` (the first 200
training images by name), ``tune`` (the next 20, to choose settings by) and ``test`` (all validation
images, which decide).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path

from PIL import Image

CLASSES, TRAIN, TUNE, SIDE = 100, 200, 20, 32


def main() -> None:
    """Write the images; those that are there already are left alone."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, help='folder with train and val')
    parser.add_argument('out', type=Path, help='folder to write')
    options = parser.parse_args()
    jobs = list(find(options.source, options.out))
    with Pool() as pool:
        written = sum(pool.imap_unordered(shrink, jobs, chunksize=200))
    print(f'{len(jobs)} images in {options.out}, {written} of them new')


def find(source: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    """Each image that is taken, and where it is to be written."""
    train = source / 'train'
    if not train.is_dir():
        sys.exit(f'{source} has no folder train; expected the unpacked Tiny-ImageNet.')
    names = sorted(folder.name for folder in train.iterdir() if folder.is_dir())[:CLASSES]
    tested = validation(source / 'val')
    for name in names:
        images = sorted((train / name).rglob('*.JPEG'))
        parts = dict(train=images[:TRAIN], tune=images[TRAIN : TRAIN + TUNE], test=tested[name])
        for part, files in parts.items():
            if not files:
                sys.exit(f'{source}: class {name} has no images for {part}.')
            yield from ((file, out / part / name / f'{file.stem}.png') for file in files)


def validation(folder: Path) -> dict[str, list[Path]]:
    """The validation images of each class."""
    notes = folder / 'val_annotations.txt'
    found: dict[str, list[Path]] = {}
    if notes.exists():
        for line in notes.read_text().splitlines():
            image, name = line.split('\t')[:2]
            found.setdefault(name, []).append(folder / 'images' / image)
    else:
        for file in sorted(folder.rglob('*.JPEG')):
            found.setdefault(file.relative_to(folder).parts[0], []).append(file)
    return found


def shrink(job: tuple[Path, Path]) -> bool:
    """Write one image at half its size, each pixel the mean of four; False if it is there."""
    file, target = job
    if target.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    image = Image.open(file).convert('RGB').resize((SIDE, SIDE), Image.Resampling.BOX)
    partial = target.with_suffix('.partial')
    image.save(partial, format='PNG')
    partial.replace(target)
    return True


if __name__ == '__main__':
    main()
