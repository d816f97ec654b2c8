"""A student without head, for pre-training: the distillation's losses alone train it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mmkdlayer.errors import ConfigError


class _RunsWithoutHead:
    """Stands in for ``loss`` of a classifier without head: runs the network, and there is no loss.

    A plain object, so that a deep copy of the student refers to the copy and the student pickles.
    """

    def __init__(self, student: nn.Module) -> None:
        self.student = student

    def __call__(self, inputs: Tensor, data_samples: Any = None) -> dict[str, Tensor]:
        student: Any = self.student
        student.extract_feat(inputs)
        return {}


class _CanNotPredict:
    """Stands in for ``predict``."""

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        raise ConfigError(
            'The student has no head, so it can not predict. Take its validation out (val_cfg=None, '
            'val_dataloader=None, val_evaluator=None), or give it a head.'
        )


def allow_no_head(student: nn.Module) -> None:
    """Let a classifier of mmpretrain whose head is left out be trained by other losses.

    Args:
        student: Any network; one that has a head, or none of mmpretrain's, stays as it is.
    """
    if getattr(student, 'head', student) is None and hasattr(student, 'extract_feat'):
        student.loss = _RunsWithoutHead(student)  # type: ignore[assignment]
        student.predict = _CanNotPredict()  # type: ignore[assignment]
