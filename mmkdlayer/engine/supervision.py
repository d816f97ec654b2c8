"""The losses of a distiller that compare a KD layer's scores with a teacher's decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.decisions import SubclassDecision, TeacherDecision
from mmkdlayer.models.losses import TeacherDecisionLoss

from .teachers import Teacher, find_teachers


@dataclass
class Supervision:
    """A KD layer's loss, and where its inputs are recorded.

    Attributes:
        name: Name of the decision file: the loss's name without ``loss_``.
        loss: The loss.
        feature: The entry ``teacher_feature`` of ``loss_forward_mappings``.
        scores: The entry ``scores``.
    """

    name: str
    loss: TeacherDecisionLoss
    feature: dict
    scores: dict

    @property
    def decision(self) -> TeacherDecision:
        """The loss's decision."""
        return self.loss.decision


def find_supervisions(distiller: Any) -> list[Supervision]:
    """All losses of a distiller that compare scores with a teacher's decision.

    Raises:
        ConfigError: Such a loss lacks its scores or its teacher feature.
    """
    found = []
    for loss_name, loss in getattr(distiller, 'distill_losses', {}).items():
        if not isinstance(loss, TeacherDecisionLoss):
            continue
        mapping = distiller.loss_forward_mappings.get(loss_name, {})
        missing = {'scores', 'teacher_feature'} - set(mapping)
        if missing:
            raise ConfigError(
                f'loss_forward_mappings["{loss_name}"] lacks {sorted(missing)}: a TeacherDecisionLoss '
                "needs the student's scores and the teacher's feature, each with its recorder."
            )
        found.append(
            Supervision(
                loss_name[len('loss_') :] if loss_name.startswith('loss_') else loss_name,
                loss,
                dict(mapping['teacher_feature']),
                dict(mapping['scores']),
            )
        )
    return found


def check_teachers(algorithm: Any, cfg: Any, supervisions: list[Supervision]) -> list[Teacher]:
    """The teachers of an algorithm, where the decisions can be had from them.

    Raises:
        ConfigError: There is no teacher, or the training is data-free and a decision needs data.
    """
    teachers = find_teachers(algorithm, cfg.get('model') or {})
    kind = type(algorithm).__name__
    if not teachers:
        raise ConfigError(
            f'{kind} has no teacher, so nothing can decide what the KD layers of '
            f"{[s.name for s in supervisions]} should match: the student's own features change while "
            'it learns. Take the TeacherDecisionLoss out (the KD layers learn from the other losses), '
            'or train with SingleTeacherDistill.'
        )
    if not hasattr(algorithm, 'generator'):
        return teachers
    for supervision in supervisions:
        if isinstance(supervision.decision, SubclassDecision):
            raise ConfigError(
                f'KD layer loss "{supervision.name}": a SubclassDecision needs the labels of its '
                f'images, but {kind} trains on generated images, which have none (the labels at hand '
                'are those of other images). Use a CentroidDecision with a file.'
            )
        if not supervision.decision.is_fitted:
            raise ConfigError(
                f'KD layer loss "{supervision.name}": {kind} is data-free, so there is nothing to fit '
                'its decision on. Give it a file, decision=dict(..., file=FILE), that '
                'tools/fit_decisions.py wrote where the teacher and data were.'
            )
    return teachers


def check_shapes(supervision: Supervision, feature: tuple, scores: tuple) -> None:
    """Check one image's shapes before anything is fitted or trained.

    Args:
        supervision: The loss they are for.
        feature: The teacher's (D, H', W').
        scores: The student's (K, H, W).

    Raises:
        ConfigError: Templates differ from the decision's, or the teacher's map is the smaller one.
    """
    name, decision = supervision.name, supervision.decision
    if len(feature) != 3 or len(scores) != 3:
        raise ConfigError(
            f'KD layer loss "{name}": expected a teacher feature (D, H, W) and scores (K, H, W) for '
            f'each image, but recorded {feature} and {scores}. Record modules that return maps.'
        )
    if scores[0] != decision.num_templates:
        raise ConfigError(
            f'KD layer loss "{name}": the student has {scores[0]} templates, but '
            f'{type(decision).__name__} decides over {decision.num_templates} '
            f'({decision.extra_repr()}). Make num_templates and the decision agree.'
        )
    if feature[1] < scores[1] or feature[2] < scores[2]:
        raise ConfigError(
            f'KD layer loss "{name}": the teacher\'s map is {feature[1]}x{feature[2]}, smaller than '
            f"the student's {scores[1]}x{scores[2]}. Record an earlier module of the teacher, or place "
            'the KD layer after a later module of the student.'
        )
