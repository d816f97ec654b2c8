"""Losses of the student's scores against the teacher's decisions, and of logits and features."""

from .logit_standardization import LogitStandardization
from .teacher_decision_loss import TeacherDecisionLoss

__all__ = ['LogitStandardization', 'TeacherDecisionLoss']
