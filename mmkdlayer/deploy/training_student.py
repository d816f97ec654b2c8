"""The student as the training model holds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmkdlayer.checkpoints import STUDENT_PREFIX, load_weights


def build_training_student(cfg: Config, state: Mapping[str, Tensor], origin: str) -> nn.Module:
    """Build the training model and load its student's weights; that student, in eval mode.

    Args:
        cfg: The training config, or that of a student alone.
        state: The student's weights.
        origin: Where they come from, for the message.

    Raises:
        CheckpointError: The weights do not fit.
    """
    model = MODELS.build(without_teacher(cfg).model)
    student = model.student if STUDENT_PREFIX.rstrip('.') in cfg.model else model
    load_weights(student, state, origin)
    return student.eval()


def without_teacher(cfg: Config) -> Config:
    """A copy of the config without the files that only training needs: of teachers and decisions."""
    cfg = Config(cfg.to_dict())
    if 'teacher_ckpt' in cfg.model:
        cfg.model.teacher_ckpt = None
    for teacher in (cfg.model.get('teachers') or {}).values():
        teacher.pop('ckpt_path', None)
    (cfg.model.get('teacher') or {}).pop('checkpoints', None)
    for decision in decision_configs(cfg.model).values():
        decision.pop('file', None)
    return cfg


def decision_configs(model_cfg: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The configs of a training model's decisions, by the name of the KD layer or loss."""
    distiller = model_cfg.get('distiller') or {}
    owners = {**(distiller.get('kd_layers') or {}), **(distiller.get('distill_losses') or {})}
    return {
        name: owner['decision']
        for name, owner in owners.items()
        if isinstance(owner, Mapping) and isinstance(owner.get('decision'), Mapping)
    }
