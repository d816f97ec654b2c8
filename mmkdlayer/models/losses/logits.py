"""What losses on logits share: checks, precision, labels."""

from __future__ import annotations

import torch
from torch import Tensor

from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.models.ops import class_indices


def full_precision_logits(name: str, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both logits (N, C) in float32, or float64 where one has it.

    Raises:
        ConfigError: The shapes differ, or are not (N, C); ``name`` is the loss.
    """
    if student.dim() != 2 or student.shape != teacher.shape:
        raise ConfigError(
            f'{name}: expected logits (N, C) of the student and the teacher, with the same C classes, '
            f'but got {tuple(student.shape)} and {tuple(teacher.shape)}. Record the outputs of both '
            'classifiers, such as "head.fc".'
        )
    dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
    return student.to(dtype), teacher.to(dtype)


def target_classes(name: str, gt_labels: Tensor, images: int, classes: int) -> Tensor:
    """One class of each image, (N,), int64: of a soft label, the one with the largest share.

    Labels are class indices (N,) or class shares (N, C); of equal shares the first counts.

    Raises:
        DataError: The shape is another, or a class is out of range; ``name`` is the loss.
    """
    if tuple(gt_labels.shape) == (images, classes) and gt_labels.dim() == 2:
        return gt_labels.argmax(1)
    if tuple(gt_labels.shape) != (images,) or gt_labels.is_floating_point():
        raise DataError(
            f'{name}: expected labels of {images} images, as class indices (N,) or class shares '
            f'(N, {classes}), but got {gt_labels.dtype} {tuple(gt_labels.shape)}.'
        )
    return class_indices(name, gt_labels, classes)
