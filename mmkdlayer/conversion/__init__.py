"""Converts what others published: teacher checkpoints and decision tables."""

from .crd import crd_network
from .letkd import convert_decisions
from .networks import SourceNetwork
from .tinyimagenet import arrange_validation
from .torchvision import torchvision_network
from .weights import convert_teacher

__all__ = [
    'SourceNetwork',
    'arrange_validation',
    'convert_decisions',
    'convert_teacher',
    'crd_network',
    'torchvision_network',
]
