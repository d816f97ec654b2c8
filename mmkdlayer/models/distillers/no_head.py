"""A student without head, for pre-training: the distillation's losses alone train it."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from mmkdlayer.errors import ConfigError


def allow_no_head(student: nn.Module) -> None:
    """Let a classifier of mmpretrain whose head is left out be trained by other losses.

    A network that has a head, or is none of mmpretrain's, stays as it is.
    """
    if getattr(student, 'head', student) is None and hasattr(student, 'extract_feat'):
        # A partial: a deep copy of the student refers to the copy, and the student pickles.
        student.loss = partial(_run_without_loss, student)  # type: ignore[assignment]
        student.predict = _refuse_to_predict  # type: ignore[assignment]


def _run_without_loss(student: Any, inputs: Tensor, data_samples: Any = None) -> dict[str, Tensor]:
    student.extract_feat(inputs)
    return {}


def _refuse_to_predict(*args: Any, **kwargs: Any) -> None:
    raise ConfigError(
        'The student has no head, so it can not predict. Take its validation out (val_cfg=None, '
        'val_dataloader=None, val_evaluator=None), or give it a head.'
    )
