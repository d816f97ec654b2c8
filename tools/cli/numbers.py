"""Numbers on the command line, refused as it is read."""

from __future__ import annotations

import argparse
import math
from typing import Callable


def whole_number(least: int = 1) -> Callable[[str], int]:
    """A reader of whole numbers from ``least`` (0 or more) on, for ``type=`` of an option."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and int(text) >= least):
            raise argparse.ArgumentTypeError(
                f'expected a whole number of at least {least}, but got {text!r}'
            )
        return int(text)

    return read


def positive_number(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f'expected a finite number above 0, but got {text!r}')
    return value
