"""Keeps a notice of OneDL's mmpretrain off standard output, where commands print their results.

It prints "Could not import OneDL" at each import where a client of OneDL is missing: one data set.
"""

from __future__ import annotations

import contextlib
import io
import sys
from types import ModuleType
from typing import Any, Callable

DATASETS = 'mmpretrain.datasets'
NOTICE = 'Could not import OneDL'


def run_without_notice(module: Any, run: Callable[[ModuleType], None]) -> None:
    """Run the code of mmpretrain's data sets; what it prints appears afterwards, less the notice."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            run(module)
    finally:
        for line in printed.getvalue().splitlines():
            if line != NOTICE:
                print(line, file=sys.stdout)
