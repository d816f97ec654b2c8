"""What a student says about image files: class names and scores; files that can't be read are named."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from torch.utils.data import DataLoader, Dataset

from mmkdlayer.errors import DataError
from mmkdlayer.image_files import why_bad

from .file_pipeline import file_pipeline

#: Files of a folder that are taken for images.
EXTENSIONS = {
    *('.jpg', '.jpeg', '.png', '.ppm', '.pgm', '.pnm', '.bmp', '.tif', '.tiff', '.webp', '.jfif'),
    *('.jp2', '.gif'),
}


@dataclass(frozen=True)
class Prediction:
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

    Links are followed; each folder is read once.

    Returns:
        The files, in order; and how many others there are in the folders, by extension. Hidden ones do
        not count.

    Raises:
        DataError: A path is not there, a folder can't be read, or there are no images.
    """
    places = [Path(path) for path in paths]
    files: list[str] = []
    others: Counter[str] = Counter()
    for path in places:
        if not path.exists():
            raise DataError(f'{path}: there is no such file or folder of images.')
        if path.is_file():
            files.append(str(path))
            continue
        seen: set[str] = set()
        for folder, below, names in os.walk(path, followlinks=True, onerror=_refuse):
            if (place := os.path.realpath(folder)) in seen:
                below.clear()  # a link to a folder around it, perhaps
                continue
            seen.add(place)
            below[:] = sorted(name for name in below if not name.startswith('.'))
            for name in sorted(name for name in names if not name.startswith('.')):
                extension = os.path.splitext(name)[1].lower()
                if extension in EXTENSIONS:
                    files.append(os.path.join(folder, name))
                else:
                    others[extension or 'no extension'] += 1
    if not files:
        raise DataError(
            f'There are no images in {", ".join(map(str, places))}: expected files ending in '
            f'{", ".join(sorted(EXTENSIONS))}, but found {dict(others) or "none at all"}.'
        )
    return files, others


def _refuse(error: OSError) -> None:
    raise DataError(f'Folder {error.filename} cannot be read: {error.strerror}.') from error


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
        results = _predict(student, [sample for _, sample, problem in batch if not problem])
        for file, _, problem in batch:
            if problem:
                yield Prediction(file, (), problem)
            else:
                yield _prediction(file, next(results), names, top)


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
            problem = why_bad(file, lambda _: sample, full=False)
        except Exception as error:  # of any decoder or transform: this file alone is left out
            said_why = isinstance(error, DataError) and error.__cause__ is None
            problem = '' if said_why else why_bad(file, self.read)
            problem = problem or ' '.join(str(error).split())[:200] or type(error).__name__
        return (file, None, problem) if problem else (file, sample, '')

    def read(self, file: str) -> Any:
        """What the pipeline makes of a file."""
        return self.pipeline(dict(img_path=file, gt_label=0, sample_idx=0))


@torch.no_grad()
def _predict(student: BaseModel, samples: Sequence[Any]) -> Iterator[Any]:
    """What the student says of samples, in order; images of other sizes would be padded, so alone."""
    one_size = len({sample['inputs'].shape for sample in samples}) == 1
    for group in [samples] if one_size else [[sample] for sample in samples]:
        yield from student.test_step(pseudo_collate(group))


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
