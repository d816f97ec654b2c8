"""The student without its teacher: standalone config, weights, folding, other formats, loading."""

from .checkpoints import read_student_weights
from .export import ExportOptions, export_student
from .folded_kd_layer import FoldedKDLayer
from .loading import load_student
from .student_config import student_config, student_model_config

__all__ = [
    'ExportOptions',
    'FoldedKDLayer',
    'export_student',
    'load_student',
    'read_student_weights',
    'student_config',
    'student_model_config',
]
