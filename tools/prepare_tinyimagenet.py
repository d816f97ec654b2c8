"""Sort Tiny-ImageNet's validation images into one folder per class, as training expects them.

python -m mmkdlayer prepare_tinyimagenet data/tiny-imagenet-200
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cli import report_errors
from mmkdlayer.errors import DataError

ANNOTATIONS = 'val_annotations.txt'
STAGING = 'val.partial'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', metavar='ROOT', help='extracted archive, with train/ and val/')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Arrange one folder."""
    root = parse_args(argv).root
    with report_errors():
        moved = arrange_validation(root)
        print(f'{root}/val: {moved} images sorted' if moved else f'{root}/val: already sorted')


def arrange_validation(root: str | Path) -> int:
    """Turn the archive's ``val/images/*`` and ``val/val_annotations.txt`` into ``val/<class>/*``.

    Everything is checked before the first file moves. Images move (no copies are made) into
    ``val.partial``, which becomes ``val`` in the end: a reader sees the old ``val`` or the finished
    one. If it is stopped, run it again and it continues.

    Returns:
        How many images were moved by this call; 0 if all was done before.

    Raises:
        DataError: The folder does not hold Tiny-ImageNet, or not all of it.
    """
    root = Path(root)
    flat, staging = root / 'val', root / STAGING
    # The annotations move last, so they tell how far an earlier run came.
    annotations = next(
        (path for path in (flat / ANNOTATIONS, staging / ANNOTATIONS) if path.is_file()), None
    )
    if annotations is None:
        if not staging.exists() and folders(flat) and 'images' not in folders(flat):
            return 0
        raise DataError(
            f'{root}: expected Tiny-ImageNet as it is extracted (train/, val/images/, '
            f'val/{ANNOTATIONS}), but there is no val/{ANNOTATIONS}. Name the folder '
            'tiny-imagenet-200, or extract the archive again.'
        )
    classes = read_annotations(annotations)
    if not staging.exists() and not (flat / 'images').exists():
        check_arranged(flat, classes)
        return 0
    check_extracted(root, classes)
    moved = 0
    for name, label in classes.items():
        source, target = flat / 'images' / name, staging / label / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
            moved += 1
    if annotations.parent == flat:
        annotations.replace(staging / ANNOTATIONS)
    for emptied in (flat / 'images', flat):
        if emptied.is_dir():
            emptied.rmdir()
    staging.replace(flat)
    return moved


def read_annotations(path: Path) -> dict[str, str]:
    """Class of every image, by file name: the first two columns, separated by tabs."""
    classes: dict[str, str] = {}
    try:
        text = path.read_text(encoding='utf-8')
    except UnicodeDecodeError as error:
        raise DataError(
            f'{path}: expected text, but {error}. Extract the archive again.'
        ) from error
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        columns = line.split('\t')
        names = [name.strip() for name in columns[:2]]
        # Names become paths: nothing may lead out of the folder.
        if len(names) < 2 or any(
            not n or '/' in n or '\\' in n or n.startswith('.') for n in names
        ):
            raise DataError(
                f'{path}, line {number}: expected an image name and a class, separated by a tab, '
                f'but found {line[:80]!r}. Extract the archive again.'
            )
        if names[0] in classes:
            raise DataError(f'{path}, line {number}: {names[0]} has two lines. Extract it again.')
        classes[names[0]] = names[1]
    if not classes:
        raise DataError(f'{path}: expected one line per image, but it is empty. Extract it again.')
    return classes


def check_arranged(val: Path, classes: dict[str, str]) -> None:
    """Every image is in its class's folder (or, as in train, in ``images`` inside it)."""
    lost = [
        name
        for name, label in classes.items()
        if not any((val / label / inner / name).is_file() for inner in ('.', 'images'))
    ]
    if lost:
        raise DataError(
            f'{val}: expected the {len(classes)} images of {ANNOTATIONS} in the folders of their '
            f'classes, but {len(lost)} are not there (such as {lost[0]}). Extract the archive '
            'again.'
        )


def check_extracted(root: Path, classes: dict[str, str]) -> None:
    """Every image is here once, its class is a training class, and nothing else is in the way."""
    flat, staging = root / 'val' / 'images', root / STAGING
    left = {entry.name for entry in flat.iterdir()} if flat.is_dir() else set()
    moved = {name for name, label in classes.items() if (staging / label / name).is_file()}
    lost = sorted(set(classes) - left - moved)
    if lost:
        raise DataError(
            f'{flat}: expected the {len(classes)} images of {ANNOTATIONS}, but {len(lost)} are not '
            f'there (such as {lost[0]}). Extract the archive again.'
        )
    strange = sorted((left - set(classes)) | (entries(root / 'val') - {'images', ANNOTATIONS}))
    if strange:
        raise DataError(
            f'{root / "val"}: expected only images/ and {ANNOTATIONS}, and in images/ only those '
            f'listed, but also found {len(strange)} others (such as {strange[0]}). Move them '
            'elsewhere.'
        )
    unknown = sorted(set(classes.values()) - folders(root / 'train'))
    if unknown:
        raise DataError(
            f'{root / "train"}: expected a folder for every class of the validation images, but '
            f'{len(unknown)} are not there (such as {unknown[0]}). Extract the archive again.'
        )


def entries(path: Path) -> set[str]:
    """Names in a folder."""
    return {entry.name for entry in path.iterdir()} if path.is_dir() else set()


def folders(path: Path) -> set[str]:
    """Names of the folders in a folder."""
    return {entry.name for entry in path.iterdir() if entry.is_dir()} if path.is_dir() else set()


if __name__ == '__main__':
    main()
