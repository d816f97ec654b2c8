"""What the teacher says about each region: the targets of the student's scores."""

from .base import TeacherDecision, build_decision
from .centroid_decision import CentroidDecision
from .files import DecisionFile, read_decision_file, write_decision_file
from .subclass_decision import SubclassDecision

__all__ = [
    'CentroidDecision',
    'DecisionFile',
    'SubclassDecision',
    'TeacherDecision',
    'build_decision',
    'read_decision_file',
    'write_decision_file',
]
