"""Less work for the host libraries in the tests' processes and their forks, with the same results.

Together it was half of the time of the tests that train. Commands in fresh processes do all of it.
"""

from __future__ import annotations

import functools
import gc
from typing import Any

from mmengine.config import config, utils
from tqdm import tqdm


def quicken() -> None:
    """Leave out what takes long and says nothing new; to be called when all is imported."""
    # yapf lays out each config several times in each training; without that it is the same Python.
    config.FormatCode = as_it_is
    # All metafiles of mmpretrain are read, as YAML, for each of its configs that one inherits.
    utils.load = functools.lru_cache(maxsize=None)(utils.load)
    # A thread that may hold tqdm's lock while a process is forked, for a bar that stands still.
    tqdm.monitor_interval = 0


def as_it_is(text: str, **_: Any) -> tuple[str, bool]:
    """In the place of yapf's function, which refuses what is no Python too."""
    compile(text, '<config>', 'exec')
    return f'{text}\n', False


def freeze() -> None:
    """Keep the garbage collector, which each data set calls, from all that has been imported."""
    gc.collect()
    gc.freeze()
