"""mmrazor 1.0.0 with a newer mmcv: it refuses all above 2.1.0, though what it uses is unchanged.

Its ``__init__`` compares ``mmcv.__version__`` with its maximum and does nothing else. While that runs,
mmcv states the maximum. Versions that mmkdlayer itself refuses don't come that far.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable

from mmengine.utils import digit_version

MMRAZOR = 'mmrazor'
MMRAZOR_MAXIMUM = '2.1.0'


def run_with_known_mmcv(module: Any, run: Callable[[ModuleType], None]) -> None:
    """Run the code of mmrazor's package, which sees no mmcv newer than the last one it knows."""
    import mmcv

    found = mmcv.__version__
    if digit_version(found) > digit_version(MMRAZOR_MAXIMUM):
        mmcv.__version__ = MMRAZOR_MAXIMUM
    try:
        run(module)
    finally:
        mmcv.__version__ = found
