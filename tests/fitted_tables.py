"""The tables of fitted decisions, for comparisons."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mmkdlayer.models.decisions import TeacherDecision


def tables_of(decision: TeacherDecision) -> dict[str, Tensor]:
    """By name."""
    return {name: getattr(decision, name) for name in decision.table_names}


def fit_from(batches: list, fitter: Any) -> dict[str, Tensor]:
    """The tables that a fitter makes of batches."""
    decision = None
    for index in range(fitter.num_passes):
        for features, labels in batches:
            fitter.update(index, features, labels)
        decision = fitter.finish_pass(index)
    return tables_of(decision)
