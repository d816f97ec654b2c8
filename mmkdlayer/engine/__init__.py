"""Fitting before training, hooks, launching."""

from .cpu_training import CpuAmpOptimWrapper, CpuDistributedDataParallel
from .decisions import prepare_decisions
from .hooks import CheckWeightsHook, FitDecisionsHook, PreemptionHook
from .loops import ResumableEpochLoop

__all__ = [
    'CheckWeightsHook',
    'CpuAmpOptimWrapper',
    'CpuDistributedDataParallel',
    'FitDecisionsHook',
    'PreemptionHook',
    'ResumableEpochLoop',
    'prepare_decisions',
]
