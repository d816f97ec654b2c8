"""Losses of the student's scores against the teacher's decisions, and of logits and features."""

from .logit_standardization import LogitStandardization
from .stored_decision_loss import StoredDecisionLoss
from .teacher_decision_loss import TeacherDecisionLoss

__all__ = ['LogitStandardization', 'StoredDecisionLoss', 'TeacherDecisionLoss']
