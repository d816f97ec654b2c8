"""Turn decision tables of other code into this project's decision files.

python tools/convert_decisions.py letkd DIR OUT

DIR holds what the authors' code writes: the sub-class tables (four .npy files), the quantiser, or
both. OUT gets inter.safetensors and penult.safetensors, for ``file=`` in a decision's config.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mmkdlayer.cli import report_errors
from mmkdlayer.conversion import convert_decisions


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', choices=['letkd'], help='whose tables')
    parser.add_argument('folder', metavar='DIR', help='folder of the tables')
    parser.add_argument('out', metavar='OUT', help='folder for the decision files')
    parser.add_argument(
        '--num-subclasses', type=int, default=8, metavar='M', help='sub-classes per class (8)'
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Convert one folder."""
    args = parse_args(argv)
    with report_errors():
        written = convert_decisions(args.folder, args.out, args.num_subclasses)
        for path, decision in written.items():
            print(f'{path}: {type(decision).__name__}, {decision.num_templates} templates')


if __name__ == '__main__':
    main()
