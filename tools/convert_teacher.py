"""Turn a published teacher's checkpoint into one for this project's backbones.

python -m mmkdlayer convert_teacher crd resnet56.pth checkpoints/resnet56_cifar100.pth
python -m mmkdlayer convert_teacher torchvision resnet34.pth checkpoints/resnet34_in1k.pth
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from cli import report_errors
from conversion import convert_teacher


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', choices=['crd', 'torchvision'], help='where the file comes from')
    parser.add_argument('checkpoint', metavar='SRC', help='published checkpoint')
    parser.add_argument('out', metavar='DST', help='converted checkpoint, to be written')
    parser.add_argument('--arch', help='name of the network; found from the keys if not given')
    parser.add_argument('--num-classes', type=int, help='refuse a teacher with another number')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Convert one checkpoint."""
    args = parse_args(argv)
    with report_errors():
        network = convert_teacher(
            args.source, args.checkpoint, args.out, args.arch, args.num_classes
        )
        print(f'{args.out}: {network.name}, checked; backbone={dict(network.backbone)}')


if __name__ == '__main__':
    main()
