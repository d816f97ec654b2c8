"""Converts what others published: teacher checkpoints and decision tables."""

from .crd import crd_network
from .letkd import convert_decisions
from .networks import SourceNetwork
from .torchvision import torchvision_network
from .weights import convert_teacher

__all__ = [
    'SourceNetwork',
    'convert_decisions',
    'convert_teacher',
    'crd_network',
    'torchvision_network',
]
