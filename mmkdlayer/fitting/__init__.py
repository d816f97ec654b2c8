"""Fitting of the teacher's decisions from streamed features, in one process or in many.

Plain functions and classes on tensors: nothing here knows of models, runners or configs.
"""

from .api import fit_centroids, fit_subclasses
from .centroids import CentroidFitter
from .fitters import Fitter, run_fitters
from .progress import Progress, ProgressBar
from .subclasses import SubclassFitter

__all__ = [
    'CentroidFitter',
    'Fitter',
    'Progress',
    'ProgressBar',
    'SubclassFitter',
    'fit_centroids',
    'fit_subclasses',
    'run_fitters',
]
