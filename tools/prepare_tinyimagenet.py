"""Sort Tiny-ImageNet's validation images into one folder per class, as training expects them.

python tools/prepare_tinyimagenet.py data/tiny-imagenet-200
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mmkdlayer.conversion import arrange_validation
from mmkdlayer.engine import cli


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
    with cli.errors_for_people():
        moved = arrange_validation(root)
        print(f'{root}/val: {moved} images sorted' if moved else f'{root}/val: already sorted')


if __name__ == '__main__':
    main()
