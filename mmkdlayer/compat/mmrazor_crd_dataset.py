"""A numpy for mmrazor's CRDDataset that makes arrays of unequal rows, as numpy did before 1.24.

The data set keeps the images of each class in one array of arrays. Classes of unequal sizes made an
array of objects then, with a warning; numpy 1.24 and newer raise a ValueError instead.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from .loader_wrapping import LoaderWrappingFinder, WrappedLoader


class RaggedNumpy:
    """numpy, but for ``asarray`` of rows of unequal lengths: that is an array of objects."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def asarray(values: Any, *args: Any, **kwargs: Any) -> np.ndarray:
        """As numpy's, where numpy can; else an array of objects, one for each row."""
        try:
            return np.asarray(values, *args, **kwargs)
        except ValueError:
            if args or kwargs or not isinstance(values, list):
                raise
        rows = np.empty(len(values), dtype=object)
        for index, value in enumerate(values):
            rows[index] = value
        return rows


class _CRDDatasetLoader(WrappedLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        if getattr(module, 'np', None) is np:
            module.np = RaggedNumpy()  # type: ignore[attr-defined]


class CRDDatasetFinder(LoaderWrappingFinder):
    """Watches for the import of mmrazor's CRDDataset."""

    module = 'mmrazor.datasets.crd_dataset_wrapper'
    loader = _CRDDatasetLoader
