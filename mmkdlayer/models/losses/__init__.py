"""Losses of the student's scores against the teacher's decisions, and of logits and features."""

from .logit_standardization import LogitStandardization
from .nkd_loss import NKDLoss
from .review_kd_loss import ReviewKDLoss
from .sdd_loss import SDDLoss
from .stored_decision_loss import StoredDecisionLoss
from .teacher_decision_loss import TeacherDecisionLoss
from .vitkd_loss import ViTKDLoss
from .wttm_loss import WTTMLoss

__all__ = [
    'LogitStandardization',
    'NKDLoss',
    'ReviewKDLoss',
    'SDDLoss',
    'StoredDecisionLoss',
    'TeacherDecisionLoss',
    'ViTKDLoss',
    'WTTMLoss',
]
