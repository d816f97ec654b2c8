"""Finds the KD layers whose scores are compared with a teacher's decision, and checks that they fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from mmkdlayer.errors import ConfigError, DecisionFileError
from mmkdlayer.models.decisions import TeacherDecision
from mmkdlayer.models.decisions.sizes import pool_to
from mmkdlayer.models.losses import TeacherDecisionLoss

from .teachers import Teacher, find_teachers, teacher_of


@dataclass(eq=False)
class SupervisedLayer:
    """A KD layer with a TeacherDecisionLoss, and what is learned on the way to its decision."""

    name: str  #: name of the layer and of its decision file: the loss's name without ``loss_``
    key: str  #: where the config declares it, for messages
    decision: TeacherDecision  #: what the scores are compared with
    feature: Mapping[str, Any]  #: the entry ``teacher_feature`` of ``loss_forward_mappings``
    scores: Mapping[str, Any]  #: the entry ``scores``
    #: The teacher that the feature is of; set by :func:`assign_teachers`.
    teacher: Teacher = field(init=False, repr=False)
    #: (h, w) of the student's map; set by :func:`check_shapes`.
    size: tuple[int, int] = field(init=False, repr=False)
    #: What the decision is to be fitted on; set by
    #: :func:`~mmkdlayer.engine.provenance.describe_provenance`.
    provenance: dict[str, Any] = field(init=False, repr=False)


def find_supervised_layers(distiller: Any) -> list[SupervisedLayer]:
    """All KD layers of a distiller that a teacher's decision supervises.

    Raises:
        ConfigError: A TeacherDecisionLoss lacks its scores or its teacher feature.
    """
    found: list[SupervisedLayer] = []
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
        name = loss_name.removeprefix('loss_')
        if name in (layer.name for layer in found):
            raise ConfigError(
                f'distill_losses has "{name}" and "loss_{name}", whose decisions would be one file. '
                'Rename one of them.'
            )
        declared = getattr(getattr(distiller, 'kd_layers', {}).get(name), 'decision', None)
        entry = f'distill_losses.{loss_name}' if declared is None else f'kd_layers.{name}'
        inputs = mapping['teacher_feature'], mapping['scores']
        found.append(SupervisedLayer(name, f'model.distiller.{entry}', loss.decision, *inputs))
    return found


def assign_teachers(
    layers: Sequence[SupervisedLayer], algorithm: Any, model_cfg: Mapping[str, Any]
) -> None:
    """Find the teacher of each layer of a distillation algorithm of mmrazor, whose config is given.

    Raises:
        ConfigError: There is no teacher, or the training is data-free and a decision needs data.
    """
    teachers = find_teachers(algorithm, model_cfg)
    kind = type(algorithm).__name__
    if not teachers:
        raise ConfigError(
            f'{kind} has no teacher, so nothing can decide what the KD layers of '
            f"{[layer.name for layer in layers]} should match: the student's own features change "
            'while it learns. Take their decisions out (the KD layers learn from the other losses), '
            'or train with SingleTeacherDistill.'
        )
    data_free = hasattr(algorithm, 'generator')
    for layer in layers:
        if data_free and layer.decision.needs_labels:
            raise ConfigError(
                f'{layer.key}: a SubclassDecision needs the labels of its images, but {kind} trains '
                'on generated images, which have none (the labels of a batch are those of '
                'other images). Use a CentroidDecision with a file.'
            )
        if data_free and not layer.decision.is_fitted:
            raise ConfigError(
                f'{layer.key}: {kind} is data-free, so there is nothing to fit its decision on. Give '
                'it a file, decision=dict(..., file=FILE), that python -m mmkdlayer '
                'fit_decisions wrote where the teacher and data were.'
            )
        recorder = algorithm.distiller.teacher_recorders.get_recorder(layer.feature['recorder'])
        layer.teacher = teacher_of(recorder.source, teachers)


def check_shapes(layer: SupervisedLayer, feature: tuple[int, ...], scores: tuple[int, ...]) -> None:
    """Check one image's shapes: the teacher's feature (D, H', W'), the student's scores (K, H, W).

    Before anything is fitted or trained; sets the layer's ``size``.

    Raises:
        ConfigError: These are no maps, the templates differ from the decision's, or the teacher's map
            has one position, the student's several.
        DecisionFileError: The decision was fitted on features with other channels.
    """
    decision, kind = layer.decision, type(layer.decision).__name__
    if len(feature) != 3 or len(scores) != 3:
        raise ConfigError(
            f'{layer.key}: expected a teacher feature (D, H, W) and scores (K, H, W) for each image, '
            f'but found {feature} and {scores}. Name modules that return maps.'
        )
    layer.size = scores[1], scores[2]
    if scores[0] != decision.num_templates:
        raise ConfigError(
            f'{layer.key}.decision: {kind} decides over {decision.num_templates} templates '
            f'({decision.extra_repr()}), but the student has {scores[0]}. Make num_templates and the '
            'decision agree.'
        )
    try:
        pool_to(torch.empty(1, *feature, device='meta'), layer.size)
    except ConfigError as error:
        raise ConfigError(f'{layer.key}.teacher: {error}') from None
    if decision.is_fitted and decision.feature_channels != feature[0]:
        raise DecisionFileError(
            f'{layer.key}.decision: {decision.file or kind} was fitted on features with '
            f'{decision.feature_channels} channels, but those of the teacher have {feature[0]}. Use '
            'the file of this teacher and layer, or fit again.'
        )
