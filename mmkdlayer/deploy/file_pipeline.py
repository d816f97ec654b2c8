"""Test pipelines that begin with a file, also where the data set of the student holds arrays."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmpretrain.registry import DATASETS

from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.pipelines import find_dataset, test_loader
from mmkdlayer.type_names import type_name

from .places import STORES

#: Shapes of what data sets give their pipelines that hold arrays in place of files.
ARRAYS = dict(CIFAR10=(32, 32, 3), CIFAR100=(32, 32, 3), MNIST=(28, 28))


def file_pipeline(cfg: Any) -> list[Any]:
    """The test pipeline of a config, beginning with a local file.

    That of a data set of arrays (CIFAR, MNIST) gets a step that reads a file as such an array.

    Raises:
        ConfigError: There is no pipeline, or none that could begin with a file.
    """
    dataset = find_dataset(test_loader(cfg))
    if dataset is None:
        raise ConfigError(
            'The student has no test_dataloader with a pipeline, so it takes no files.'
        )
    pipeline = [{k: v for k, v in step.items() if k not in STORES} for step in dataset['pipeline']]
    if loads_files(pipeline):
        return pipeline
    shape = array_shape(dataset)
    if shape is None:
        raise ConfigError(
            f'The test pipeline of {dataset.get("type")} reads no files, and how that data set holds '
            'its images is not known. Add dict(type="LoadImageFromFile") to it.'
        )
    return [ReadAsArray(shape), *pipeline]


def loads_files(pipeline: Any) -> bool:
    """Whether a pipeline begins with a file, not with an array that the data set holds."""
    return any(type_name(step.get('type')).startswith('LoadImage') for step in pipeline)


def dataset_class(dataset_cfg: Mapping[str, Any]) -> type | None:
    """The class of a data set's config, if it is known."""
    kind = dataset_cfg.get('type')
    return kind if inspect.isclass(kind) or kind is None else DATASETS.get(kind)


def array_shape(dataset_cfg: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The shape of the arrays that a data set gives its pipeline; None where it is not known."""
    names = [base.__name__ for base in getattr(dataset_class(dataset_cfg), '__mro__', ())]
    return next((ARRAYS[name] for name in names if name in ARRAYS), None)


class ReadAsArray:
    """Reads a file as data sets hold their images: of one shape, (H, W, 3) RGB or (H, W) gray."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        self.read = LoadImageFromFile(color_type='color' if len(shape) == 3 else 'grayscale')

    def __call__(self, results: dict) -> dict:
        """Add the array ``img`` of the file ``img_path``."""
        results = self.read(results)
        found = results['img'].shape[:2]
        if found != self.shape[:2]:
            raise DataError(
                f'it is {found[1]}x{found[0]}, but the student takes images of {self.shape[1]}x'
                f'{self.shape[0]}, and its test pipeline begins with them. Resize it first'
            )
        if len(self.shape) == 3:
            results['img'] = results['img'][..., ::-1].copy()  # mmcv reads BGR
        return results
