"""The student without its teacher: standalone config, weights, folding, other formats, loading."""

from .export import ExportOptions, export_student
from .exported_student import load_student
from .folded_kd_layer import FoldedKDLayer
from .predicting import Prediction, find_images, predict_files
from .student_config import student_config, student_model_config
from .trained_config import check_trained_config

__all__ = [
    'ExportOptions',
    'FoldedKDLayer',
    'Prediction',
    'check_trained_config',
    'export_student',
    'find_images',
    'load_student',
    'predict_files',
    'student_config',
    'student_model_config',
]
