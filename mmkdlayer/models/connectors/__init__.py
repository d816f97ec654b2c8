"""The KD layer, and connectors of other distillation."""

from .kd_layer_connector import KDLayerConnector
from .review_kd_connector import ReviewKDConnector
from .simkd_projector import SimKDProjector
from .unit_conv import UnitConv2d

__all__ = ['KDLayerConnector', 'ReviewKDConnector', 'SimKDProjector', 'UnitConv2d']
