"""A folder of images, and their classes where its sub-folders tell them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from mmkdlayer.errors import DataError

from .file_pipeline import file_pipeline
from .predicting import ReadFiles, find_images

BATCH = 32


class LabelledImages(NamedTuple):
    """Image files, the class of each (None where the folders do not tell), and how that is told."""

    files: list[str]
    labels: Optional[list[int]]
    note: str


def find_labelled(folder: str, classes: Any, num_classes: int) -> LabelledImages:
    """The images of a folder; of folders of classes also the classes.

    Folders are classes by their names, which are those of the student, if these are known; or where
    they are as many as the student has classes, by their order, as mmpretrain's CustomDataset has
    it.

    Raises:
        DataError: There is no such folder, or there are no images in it.
    """
    if not Path(folder).is_dir():
        raise DataError(f'{folder}: expected a folder of images, but there is no such folder.')
    files, _ = find_images([folder])
    parts = [Path(file).relative_to(folder).parts for file in files]
    owners = [part[0] if len(part) > 1 else '' for part in parts]
    names = sorted(set(owners) - {''})
    known = [str(name) for name in classes] if isinstance(classes, (list, tuple)) else []
    if not names:
        return LabelledImages(files, None, 'its images are in no folders of classes')
    if '' in owners:
        loose = owners.count('')
        return LabelledImages(files, None, f'{loose} of its {len(files)} images are in no folder')
    if len(set(known)) == len(known) == num_classes and set(names) <= set(known):
        numbers, note = {name: known.index(name) for name in names}, 'classes by their names'
    elif len(names) == num_classes:
        numbers = {name: number for number, name in enumerate(names)}
        note = "classes by the order of the folders, whose names are not the student's"
    else:
        strange = [name for name in names if name not in known]
        why = f"the folders {strange[:3]} are none of the student's {num_classes} classes"
        return LabelledImages(files, None, f'{why} {known[:3]}' if known else why)
    return LabelledImages(files, [numbers[name] for name in owners], note)


def read_batches(
    files: Sequence[str], cfg: Any, preprocessor: nn.Module, desc: str, problems: dict[str, str]
) -> Iterator[tuple[list[int], Tensor]]:
    """Images as the student takes them, under a progress bar.

    ``problems`` gets the files that can't be read, with the reason; they are left out.

    Yields:
        Indices in ``files``, and the images (N, C, H, W): at most 32 of one size.
    """
    read = ReadFiles(files, file_pipeline(cfg))
    loader = DataLoader(read, batch_size=BATCH, collate_fn=list)
    done = 0
    with tqdm(total=len(files), desc=desc, unit='image', delay=2, mininterval=1) as bar:
        for batch in loader:
            by_size: dict[torch.Size, list[tuple[int, Any]]] = {}
            for index, (file, sample, problem) in enumerate(batch, done):
                if problem:
                    problems[file] = problem
                else:
                    by_size.setdefault(sample['inputs'].shape, []).append((index, sample))
            for group in by_size.values():
                indices, samples = zip(*group)
                yield list(indices), preprocessor(pseudo_collate(list(samples)), False)['inputs']
            done += len(batch)
            bar.update(len(batch))
