"""Hooks of the training loop."""

from .check_weights_hook import CheckWeightsHook
from .fit_decisions_hook import FitDecisionsHook
from .preemption_hook import PreemptionHook

__all__ = ['CheckWeightsHook', 'FitDecisionsHook', 'PreemptionHook']
