#!/usr/bin/env python
"""Write the catalogue of pairs: configs/kdlayer/README.md, metafile.yml and model-index.yml.

Made of the configs, the figures in mmkdlayer/catalogue/published.py, and measured costs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import mmkdlayer  # noqa: F401  (makes the host libraries work, registers this plugin)
from mmkdlayer.catalogue import load_entries, render_pages
from mmkdlayer.engine import cli

ROOT = Path(__file__).resolve().parents[1]


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--check', action='store_true', help='write nothing; exit code 1 if a file is out of date'
    )
    parser.add_argument('--debug', action='store_true', help='show tracebacks of expected errors')
    return parser.parse_args()


def main() -> None:
    """Write or check."""
    args = parse_args()
    stale = []
    with cli.errors_for_people(args.debug):
        pages = render_pages(load_entries(ROOT / 'configs' / 'kdlayer'), ROOT)
        for name, text in pages.items():
            path = ROOT / name
            if path.is_file() and path.read_text(encoding='utf-8') == text:
                continue
            stale.append(name)
            if not args.check:
                path.write_text(text, encoding='utf-8')
                print(f'wrote {name}')
    if args.check and stale:
        print(f'out of date: {", ".join(stale)}. Run: python tools/make_catalogue.py')
        sys.exit(1)
    if not stale:
        print(f'{len(pages)} files are up to date')


if __name__ == '__main__':
    main()
