"""Fitting before training, hooks, launching."""

from .batching import stack_images
from .cpu_training import CpuDistributedDataParallel
from .hooks import *  # noqa: F403
from .hooks import __all__ as hook_names
from .loops import ResumableEpochLoop
from .mixed_precision import BFloat16OptimWrapper
from .plain_distiller import PlainDistiller
from .prepare_decisions import prepare_decisions
from .teacher_views import connect_views

__all__ = [
    'BFloat16OptimWrapper',
    'CpuDistributedDataParallel',
    'PlainDistiller',
    'ResumableEpochLoop',
    'connect_views',
    'prepare_decisions',
    'stack_images',
]
__all__ += hook_names
