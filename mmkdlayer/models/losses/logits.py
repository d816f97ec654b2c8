"""What losses on logits share: checks, precision, labels."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.registry import MODELS


def build_logit_loss(name: str, given: Mapping[str, Any] | nn.Module) -> tuple[nn.Module, bool]:
    """A loss on logits that another loss calls, and whether it needs labels.

    Args:
        name: The other loss, for messages.
        given: The loss, or its config.

    Raises:
        ConfigError: It can't be built, or takes other inputs than two networks' logits and labels.
    """
    try:
        loss = given if isinstance(given, nn.Module) else MODELS.build(dict(given))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f'{name}: {given} builds no loss ({error}).') from error
    inputs = [
        parameter
        for parameter in signature(loss.forward).parameters.values()
        if parameter.kind is Parameter.POSITIONAL_OR_KEYWORD
    ]
    required = [parameter.name for parameter in inputs if parameter.default is Parameter.empty]
    if len(inputs) < 2 or len(required) > 3:
        raise ConfigError(
            f'{name}: {type(loss).__name__} takes {", ".join(required)}, but expected is a loss of the '
            'logits of the student and the teacher, and maybe of labels.'
        )
    return loss, getattr(loss, 'needs_labels', len(required) == 3)  # itself a wrapper


def full_precision_logits(name: str, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both logits in float32, or float64 where one has it.

    Args:
        name: The loss, for messages.
        student: Shape (N, C).
        teacher: Shape (N, C).

    Raises:
        ConfigError: The shapes differ, or are not (N, C).
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
    """One class of each image: of a soft label, the one with the largest share (the first of equals).

    Args:
        name: The loss, for messages.
        gt_labels: Class indices (N,) or class shares (N, C).
        images: N.
        classes: C.

    Returns:
        Class indices (N,), int64.

    Raises:
        DataError: The shape is another, or a class is out of range.
    """
    if tuple(gt_labels.shape) == (images, classes) and gt_labels.dim() == 2:
        return gt_labels.argmax(1)
    if tuple(gt_labels.shape) != (images,) or gt_labels.is_floating_point():
        raise DataError(
            f'{name}: expected labels of {images} images, as class indices (N,) or class shares '
            f'(N, {classes}), but got {gt_labels.dtype} {tuple(gt_labels.shape)}.'
        )
    if images and not bool(((gt_labels >= 0) & (gt_labels < classes)).all()):
        raise DataError(
            f'{name}: labels go from {int(gt_labels.min())} to {int(gt_labels.max())}, but the logits '
            f'have {classes} classes. Set num_classes of both heads to that of the data.'
        )
    return gt_labels.long()
