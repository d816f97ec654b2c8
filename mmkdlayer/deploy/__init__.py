"""The student without its teacher: standalone config, weights, folding, other formats, loading."""

from .export import ExportOptions, export_student
from .exported_student import load_student
from .folded_kd_layer import FoldedKDLayer
from .student_config import student_config, student_model_config
from .trained_config import check_trained_config

__all__ = [
    'ExportOptions',
    'FoldedKDLayer',
    'check_trained_config',
    'export_student',
    'load_student',
    'student_config',
    'student_model_config',
]
