"""Fitting before training, hooks, launching."""

from .decisions import prepare_decisions
from .hooks import CheckWeightsHook, FitDecisionsHook

__all__ = ['CheckWeightsHook', 'FitDecisionsHook', 'prepare_decisions']
