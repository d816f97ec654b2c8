"""KD layers, teacher decisions, losses, distillers and classifiers."""

from . import backbones
from .attach import attach_kd_layers
from .classifiers import KDLayerClassifier
from .connectors import KDLayerConnector, ReviewKDConnector, SimKDProjector
from .decisions import CentroidDecision, SubclassDecision, TeacherDecision
from .distillers import KDLayerDistiller, TeacherGroup
from .losses import (
    LogitStandardization,
    NKDLoss,
    ReviewKDLoss,
    SDDLoss,
    TeacherDecisionLoss,
    ViTKDLoss,
    WTTMLoss,
)
from .product_precision import set_precision
from .teachers import TeacherModule

__all__ = [
    'CentroidDecision',
    'KDLayerClassifier',
    'KDLayerConnector',
    'KDLayerDistiller',
    'LogitStandardization',
    'NKDLoss',
    'ReviewKDConnector',
    'ReviewKDLoss',
    'SDDLoss',
    'SimKDProjector',
    'SubclassDecision',
    'TeacherDecision',
    'TeacherDecisionLoss',
    'TeacherGroup',
    'TeacherModule',
    'ViTKDLoss',
    'WTTMLoss',
    'attach_kd_layers',
    'backbones',
    'set_precision',
]
