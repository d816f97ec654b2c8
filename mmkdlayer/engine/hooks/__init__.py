"""Hooks of the training loop."""

from .check_data_hook import CheckDataHook
from .check_finite_hook import CheckFiniteHook
from .check_weights_hook import CheckWeightsHook
from .distill_loss_schedule_hook import DistillLossScheduleHook
from .fit_decisions_hook import FitDecisionsHook
from .init_from_hook import InitFromHook
from .kd_metrics_hook import KDMetricsHook
from .preemption_hook import PreemptionHook
from .release_records_hook import ReleaseRecordsHook

__all__ = [
    'CheckDataHook',
    'CheckFiniteHook',
    'CheckWeightsHook',
    'DistillLossScheduleHook',
    'FitDecisionsHook',
    'InitFromHook',
    'KDMetricsHook',
    'PreemptionHook',
    'ReleaseRecordsHook',
]
