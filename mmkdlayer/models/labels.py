"""Labels of the images, as the student's forward pass is given them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmkdlayer.errors import DataError

#: The field of a data sample with what a store has of its image in this view: by field an array, or a
#: tensor once it was moved.
STORED = 'stored_decisions'


def read_labels(data_samples: Sequence[Any] | None) -> Tensor:
    """Labels of a batch of mmpretrain's data samples, after batch augments.

    Returns:
        Class indices (N,), int64, or where the samples have ``gt_score``, class shares (N, C): its
        values where it is of floats (Mixup, CutMix), and where it is of integers (one-hot, or several
        labels with ``to_onehot=True``) equal shares of an image's classes.

    Raises:
        DataError: There are no samples, one has no label, or one has several and no ``gt_score``.
    """
    for index, sample in enumerate(data_samples or ()):
        if 'gt_score' not in sample and 'gt_label' not in sample:
            raise DataError(
                f'A decision over sub-classes needs the label of each image, but image {index} of the '
                'batch has neither gt_label nor gt_score. Use a data set with labels, or a '
                'CentroidDecision, which needs none.'
            )
    if not data_samples:
        raise DataError(
            'A decision over sub-classes needs the labels of the images, but the student was given '
            'no data samples. Use a CentroidDecision, which needs none.'
        )
    scored = sum('gt_score' in sample for sample in data_samples)
    if scored == len(data_samples):
        scores = torch.stack([sample.gt_score for sample in data_samples])
        return scores if scores.is_floating_point() else scores / scores.sum(1, keepdim=True)
    if scored:
        raise DataError(
            f'{scored} of the {len(data_samples)} images of a batch have gt_score, and the others '
            'gt_label alone. Give all of them the same kind of label.'
        )
    labels = torch.cat([sample.gt_label.flatten() for sample in data_samples])
    if len(labels) != len(data_samples):
        raise DataError(
            f'A decision over sub-classes needs one class for each image, but {len(data_samples)} '
            f'images have {len(labels)} labels (multi-label data). Use a CentroidDecision, which needs '
            'no labels, or data_preprocessor=dict(to_onehot=True, num_classes=C), which gives an image '
            'equal shares of its classes.'
        )
    return labels


def move_stored(data_samples: Sequence[Any] | None, device: torch.device) -> None:
    """Move what is stored of a batch of data samples to a device, where it is on none yet.

    A copy for each field, from pinned memory, for which the host does not wait. It belongs before the
    step, where the batch is moved. Integers, which are unsigned, travel as signed ones of the same bits:
    torch before 2.3 has no others.
    """
    records = [sample.get(STORED) or {} for sample in data_samples or ()]
    for field in {field: None for record in records for field in record}:
        left = [r for r in records if field in r and not isinstance(r[field], Tensor)]
        if not left:
            continue
        values = np.stack([record[field] for record in left])
        moved = torch.from_numpy(values.view(values.dtype.str.replace('u', 'i')))
        moved = moved.pin_memory() if device.type == 'cuda' else moved
        for record, value in zip(left, moved.to(device, non_blocking=True).unbind()):
            record[field] = value


def read_stored(data_samples: Sequence[Any] | None, name: str, like: Tensor) -> dict[str, Tensor]:
    """What is stored of a batch of N data samples, on the device of a tensor: by field (N, ...).

    ``name`` is that of the KD layer, or 'logits'. Integers are int64. What :func:`move_stored` has not
    moved before the step is moved now.

    Raises:
        DataError: The images came without.
    """
    move_stored(data_samples, like.device)
    records = [sample.get(STORED) or {} for sample in data_samples or ()]
    fields = [field for field in (records or [{}])[0] if field.startswith(f'{name}.')]
    if not fields or any(field not in record for record in records for field in fields):
        raise DataError(
            f'Stored decisions are to be read ("{name}"), but the images came without. Train with '
            '"python -m mmkdlayer train CONFIG", which reads them along with the images, or take '
            '"stored" out of the decisions to train with the teacher.'
        )
    found = {}
    for field in fields:
        with torch.autocast('cpu', enabled=False):  # which refuses to stack float16
            values = torch.stack([record[field] for record in records])
        if not values.is_floating_point():
            values = values.long() & ((1 << min(63, 8 * values.element_size())) - 1)
        found[field.rpartition('.')[2]] = values
    return found


class DataSampleRecorder:
    """Forward pre-hook of a student that keeps the data samples of a pass with ``mode='loss'``.

    A plain object, so that a deep copy of the student has one of its own and the student pickles.
    """

    def __init__(self) -> None:
        self.data_samples: Sequence[Any] | None = None

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """Keep what is given as ``data_samples``; arguments as those of mmengine's BaseModel."""
        given = {**dict(zip(('inputs', 'data_samples', 'mode'), args)), **kwargs}
        if given.get('mode') == 'loss':
            self.data_samples = given.get('data_samples')

    def labels(self) -> Tensor:
        """Labels (N,) or (N, C) of the last such pass; see :func:`read_labels`."""
        return read_labels(self.data_samples)

    def stored(self, name: str, like: Tensor) -> dict[str, Tensor]:
        """What is stored for a KD layer of the images of the last such pass; see :func:`read_stored`."""
        return read_stored(self.data_samples, name, like)

    def release(self) -> None:
        """Drop what is kept."""
        self.data_samples = None
