"""Fitting of the teacher's decisions from streamed features, in one process or in many.

Works on tensors alone: of the models it knows the decisions that it makes (``models.decisions``).
"""

from .centroids import CentroidFitter, fit_centroids
from .fitter import Fitter
from .fitters import run_fitters
from .subclasses import SubclassFitter, fit_subclasses

__all__ = [
    'CentroidFitter',
    'Fitter',
    'SubclassFitter',
    'fit_centroids',
    'fit_subclasses',
    'run_fitters',
]
