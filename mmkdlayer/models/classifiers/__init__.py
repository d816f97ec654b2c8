"""The student on its own."""

from .kd_layer_classifier import KDLayerClassifier

__all__ = ['KDLayerClassifier']
