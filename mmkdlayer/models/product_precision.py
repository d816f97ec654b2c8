"""One setting for the precision of all KD layers' and decisions' products."""

from __future__ import annotations

from torch import nn

from .connectors import UnitConv2d
from .decisions import TeacherDecision
from .ops import check_precision


def set_precision(model: nn.Module, precision: str | None) -> None:
    """Set how precise the products of all KD layers and decisions in a model are.

    Args:
        model: Searched for :class:`UnitConv2d` and :class:`TeacherDecision`, itself included.
        precision: 'float32', the default of both, in training and evaluation whatever torch's switches
            and autocast say; or 'tf32' for TensorFloat-32 on CUDA, which changes nothing elsewhere.
            None changes nothing.

    Raises:
        ConfigError: The precision is not known.
    """
    if precision is None:
        return
    check_precision(type(model).__name__, precision)
    for module in model.modules():
        if isinstance(module, (UnitConv2d, TeacherDecision)):
            module.precision = precision
