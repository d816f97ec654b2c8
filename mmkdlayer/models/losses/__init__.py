"""Losses of the student's scores against the teacher's decisions."""

from .teacher_decision_loss import TeacherDecisionLoss

__all__ = ['TeacherDecisionLoss']
