"""A numpy for mmrazor's CRDDataset that makes arrays of unequal rows, as numpy did before 1.24.

The data set keeps the images of each class in one array of arrays. Classes of unequal sizes made an
array of objects then, with a warning; numpy 1.24 and newer raise a ValueError instead.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable

import numpy as np

CRD_DATASET = 'mmrazor.datasets.crd_dataset_wrapper'


def run_with_ragged_numpy(module: Any, run: Callable[[ModuleType], None]) -> None:
    """Run the code of CRDDataset's module, and give it the numpy below."""
    run(module)
    if getattr(module, 'np', None) is np:
        module.np = RaggedNumpy()


class RaggedNumpy:
    """numpy, but for ``asarray`` of rows of unequal lengths: that is an array of objects."""

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
