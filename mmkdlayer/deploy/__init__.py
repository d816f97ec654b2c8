"""The student without its teacher: standalone config, weights, loading."""

from .checkpoints import read_student_weights
from .export import export_student
from .loading import load_student
from .student_config import student_config, student_model_config

__all__ = [
    'export_student',
    'load_student',
    'read_student_weights',
    'student_config',
    'student_model_config',
]
