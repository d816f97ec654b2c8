"""What a student says about image files: class names and scores; files that can't be read are named."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from torch.utils.data import DataLoader, Dataset

from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.image_files import why_bad

from .example_images import (
    array_shape,
    find_dataset,
    loads_files,
    test_loader,
    without_backends,
)

#: Files of a folder that are taken for images.
EXTENSIONS = {
    *('.jpg', '.jpeg', '.png', '.ppm', '.pgm', '.pnm', '.bmp', '.tif', '.tiff', '.webp', '.jfif'),
    *('.jp2', '.gif'),
}


class Prediction(NamedTuple):
    """What a student says about a file.

    Attributes:
        file: As it was given, or found in a folder.
        classes: Names (numbers where the student has no names) and scores, the best first.
        problem: Why there are none; empty where there are.
    """

    file: str
    classes: Sequence[tuple[str, float]]
    problem: str = ''


def find_images(paths: Iterable[str | os.PathLike]) -> tuple[list[str], Counter[str]]:
    """Image files: those that are named, and those in folders that are named and in their sub-folders.

    Returns:
        The files, in order; and how many others there are in the folders, by extension. Hidden ones do
        not count.

    Raises:
        DataError: A path is not there, or there are no images.
    """
    files: list[str] = []
    others: Counter[str] = Counter()
    for path in map(Path, paths):
        if not path.exists():
            raise DataError(f'{path}: there is no such file or folder of images.')
        if path.is_file():
            files.append(str(path))
            continue
        for folder, below, names in os.walk(path, followlinks=True):
            below[:] = sorted(name for name in below if not name.startswith('.'))
            for name in sorted(name for name in names if not name.startswith('.')):
                extension = os.path.splitext(name)[1].lower()
                if extension in EXTENSIONS:
                    files.append(os.path.join(folder, name))
                else:
                    others[extension or 'no extension'] += 1
    if not files:
        raise DataError(
            f'There are no images in {", ".join(map(str, paths))}: expected files ending in '
            f'{", ".join(sorted(EXTENSIONS))}, but found {dict(others) or "none at all"}.'
        )
    return files, others


def predict_files(
    student: BaseModel,
    files: Sequence[str],
    top: int | None = None,
    batch_size: int = 32,
    workers: int = 0,
) -> Iterator[Prediction]:
    """Predict the classes of image files, in order.

    Args:
        student: As :func:`load_student` gives it.
        files: Paths of images.
        top: How many classes for each, by score; None for those that the student decides for: one, or
            with a multi-label head as many as it finds.
        batch_size: Images at a time.
        workers: Processes that read images; 0 for none beside this one.

    Raises:
        ConfigError: The student has no test pipeline that files can go through.
    """
    cfg = student._config
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmpretrain'):
        read = ReadFiles(files, file_pipeline(cfg))
    loader = DataLoader(read, batch_size=batch_size, num_workers=workers, collate_fn=list)
    names = (getattr(student, '_dataset_meta', None) or {}).get('classes')
    for batch in loader:
        yield from _predict_batch(student, batch, names, top)


class ReadFiles(Dataset):
    """Files with what the pipeline makes of them: (file, sample, why there is none)."""

    def __init__(self, files: Sequence[str], pipeline: Sequence[Any]) -> None:
        self.files, self.pipeline = files, Compose(pipeline)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[str, Any, str]:
        file = self.files[index]
        try:
            sample = self.read(file)
            # Decoders fill the rest of a file that was cut off with gray.
            problem = why_bad(file, self.read, full=False)
        except Exception as error:  # of any decoder or transform: this file alone is left out
            said_why = isinstance(error, DataError) and error.__cause__ is None
            problem = '' if said_why else why_bad(file, self.read)
            problem = problem or ' '.join(str(error).split())[:200] or type(error).__name__
        return (file, None, problem) if problem else (file, sample, '')

    def read(self, file: str) -> Any:
        """What the pipeline makes of a file."""
        return self.pipeline(dict(img_path=file, gt_label=0, sample_idx=0))


def file_pipeline(cfg: Any) -> list[Any]:
    """The test pipeline of a student's config, beginning with a file.

    That of a data set of arrays (CIFAR, MNIST) gets steps that read a file as such an array.

    Raises:
        ConfigError: There is no pipeline, or none that could begin with a file.
    """
    dataset = find_dataset(test_loader(cfg))
    if dataset is None:
        raise ConfigError(
            'The student has no test_dataloader with a pipeline, so it takes no files.'
        )
    pipeline = without_backends(dataset['pipeline'])
    if loads_files(pipeline):
        return pipeline
    shape = array_shape(dataset)
    if shape is None:
        raise ConfigError(
            f'The test pipeline of {dataset.get("type")} reads no files, and how that data set holds '
            'its images is not known. Add dict(type="LoadImageFromFile") to it.'
        )
    return [ReadAsArray(shape), *pipeline]


class ReadAsArray:
    """Reads a file as data sets hold their images: of one size, RGB or gray.

    Args:
        shape: Of the arrays, (H, W, 3) or (H, W).
    """

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


@torch.no_grad()
def _predict_batch(
    student: BaseModel,
    batch: Sequence[tuple[str, Any, str]],
    names: Sequence[str] | None,
    top: int | None,
) -> Iterator[Prediction]:
    """Predict what could be read; images of one size at a time, since padding would change scores."""
    by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for position, (_, sample, _) in enumerate(batch):
        if sample is not None:
            by_shape[tuple(sample['inputs'].shape)].append(position)
    results: dict[int, Any] = {}
    for positions in by_shape.values():
        data = pseudo_collate([batch[position][1] for position in positions])
        results.update(zip(positions, student.test_step(data)))
    for position, (file, _, problem) in enumerate(batch):
        if position in results:
            yield _prediction(file, results[position], names, top)
        else:
            yield Prediction(file, (), problem)


def _prediction(file: str, result: Any, names: Sequence[str] | None, top: int | None) -> Prediction:
    scores = result.pred_score.float().cpu()
    if not bool(torch.isfinite(scores).all()):
        return Prediction(file, (), 'the student gives scores that are no numbers')
    labels = result.pred_label.cpu() if top is None else scores.argsort(descending=True)[:top]
    labels = labels[scores[labels].argsort(descending=True)]
    known = {} if names is None else dict(enumerate(map(str, names)))
    return Prediction(
        file, [(known.get(int(k), str(int(k))), float(scores[k])) for k in labels.flatten()]
    )
