"""Fitting before training, hooks, launching."""

from .cpu_training import CpuAmpOptimWrapper, CpuDistributedDataParallel
from .hooks import (
    CheckWeightsHook,
    DistillLossScheduleHook,
    FitDecisionsHook,
    KDMetricsHook,
    PreemptionHook,
    ReleaseRecordsHook,
)
from .loops import ResumableEpochLoop
from .prepare_decisions import prepare_decisions

__all__ = [
    'CheckWeightsHook',
    'CpuAmpOptimWrapper',
    'CpuDistributedDataParallel',
    'DistillLossScheduleHook',
    'FitDecisionsHook',
    'KDMetricsHook',
    'PreemptionHook',
    'ReleaseRecordsHook',
    'ResumableEpochLoop',
    'prepare_decisions',
]
