"""What modules of mmrazor 1.0.0 need around them, with today's mmcv, numpy and Python.

Each function runs the code of a module when that is imported, see :class:`RunOnImport`.
"""

from __future__ import annotations

import functools
import sys
from types import ModuleType
from typing import Any, Callable

import numpy as np
from mmengine.utils import digit_version
from torch import Tensor

Run = Callable[[ModuleType], None]

#: mmrazor refuses a newer mmcv, though what it uses is unchanged.
NEWEST_MMCV = '2.1.0'
#: The modules that raise Python's recursion limit for the whole process, to :data:`RAISED`. That is
#: beyond what the stack holds: instead of a RecursionError, endless or hostile nesting (in JSON, say)
#: would end the process with a segmentation fault.
RECURSIVE = (
    'mmrazor.structures.graph.channel_flow',
    'mmrazor.models.task_modules.tracer.fx_tracer',
)
RAISED, PYTHONS_OWN = 2**20, 1000


def run_with_known_mmcv(module: Any, run: Run) -> None:
    """Run the code of mmrazor's package, which does nothing but compare ``mmcv.__version__``.

    Versions that mmkdlayer itself refuses don't come that far.
    """
    import mmcv

    found = mmcv.__version__
    if digit_version(found) > digit_version(NEWEST_MMCV):
        mmcv.__version__ = NEWEST_MMCV
    try:
        run(module)
    finally:
        mmcv.__version__ = found


def run_with_limit_kept(module: ModuleType, run: Run) -> None:
    """Run a module's code, then set the recursion limit back to what it was."""
    before = sys.getrecursionlimit()
    try:
        run(module)
    finally:
        sys.setrecursionlimit(before)


def lower_raised_limit() -> None:
    """Set the limit to Python's own where mmrazor was imported before and has raised it."""
    if sys.getrecursionlimit() == RAISED and any(name in sys.modules for name in RECURSIVE):
        sys.setrecursionlimit(PYTHONS_OWN)


def run_with_ragged_numpy(module: Any, run: Run) -> None:
    """Run the code of CRDDataset's module, and give it the numpy below."""
    run(module)
    if getattr(module, 'np', None) is np:
        module.np = RaggedNumpy()


class RaggedNumpy:
    """numpy, but for ``asarray`` of rows of unequal lengths: that is an array of objects.

    As it was, with a warning, before numpy 1.24. The data set keeps the images of each class in one
    array of arrays, whose sizes may differ.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def asarray(values: Any, *args: Any, **kwargs: Any) -> np.ndarray:
        """Return numpy's array where numpy can make one; else an object for each row."""
        try:
            return np.asarray(values, *args, **kwargs)
        except ValueError:
            if args or kwargs or not isinstance(values, list):
                raise
        rows = np.empty(len(values), dtype=object)
        for index, value in enumerate(values):
            rows[index] = value
        return rows


def run_with_numbers_moved(module: Any, run: Run) -> None:
    """Run the code of CRDLoss's module, and let its memory move the numbers that it is indexed by.

    They are entries of the data samples, of which mmpretrain's data preprocessor moves the labels alone.
    """
    run(module)
    forward = module.ContrastMemory.forward

    @functools.wraps(forward)
    def moving(
        self: Any, feat_s: Tensor, feat_t: Tensor, idx: Tensor, sample_idx: Tensor | None = None
    ) -> Any:
        device = self.memory_v1.device
        if sample_idx is None:  # drawn from tables that are no buffers
            drawn = self.multinomial
            drawn.prob, drawn.alias = drawn.prob.to(device), drawn.alias.to(device)
        else:
            sample_idx = sample_idx.to(device)
        return forward(self, feat_s, feat_t, idx.to(device), sample_idx)

    module.ContrastMemory.forward = moving


#: What runs the code of each of these modules.
RUNNERS: dict[str, Callable[[Any, Run], None]] = {
    'mmrazor': run_with_known_mmcv,
    'mmrazor.datasets.crd_dataset_wrapper': run_with_ragged_numpy,
    'mmrazor.models.losses.crd_loss': run_with_numbers_moved,
    **dict.fromkeys(RECURSIVE, run_with_limit_kept),
}
