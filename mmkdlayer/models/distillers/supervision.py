"""What mmrazor's distiller is to be given for KD layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmrazor.registry import TASK_UTILS

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.connectors.teacher_feature import TeacherFeature
from mmkdlayer.models.kd_layer_options import KDLayerOptions
from mmkdlayer.type_names import type_name

from .checks import PARTS


def with_supervision(
    kwargs: dict[str, Any], kd_layers: Mapping[str, KDLayerOptions]
) -> dict[str, Any]:
    """Arguments of mmrazor's distiller: those of the config, and what each supervised layer needs.

    Raises:
        ConfigError: The config has something under a name that a layer needs.
    """
    parts: dict[str, dict] = {key: dict(kwargs.get(key) or {}) for key in PARTS}
    for name, layer in kd_layers.items():
        if layer.decision is None:
            continue
        scores, feature = f'kd_layers.{name}.templates', f'kd_layers.{name}.teacher'
        mapping: dict[str, Any] = dict(scores=dict(recorder=scores, from_student=True))
        added: list[tuple[str, str, dict[str, Any]]] = [
            ('student_recorders', scores, dict(type='mmrazor.ModuleOutputs', source=scores))
        ]
        kind = 'StoredDecisionLoss' if layer.decision.stored else 'TeacherDecisionLoss'
        if not layer.decision.stored:
            connector = f'{name}_teacher_feature'
            mapping['teacher_feature'] = dict(
                recorder=feature, from_student=False, connector=connector
            )
            reads = dict(type='mmrazor.ModuleOutputs', source=layer.teacher)
            chooses = dict(type=TeacherFeature, name=name, **layer.feature_options())
            added += [('teacher_recorders', feature, reads), ('connectors', connector, chooses)]
        loss = dict(type=f'mmkdlayer.{kind}', **layer.loss_options())
        added += [
            ('distill_losses', f'loss_{name}', loss),
            ('loss_forward_mappings', f'loss_{name}', mapping),
        ]
        for key, entry, value in added:
            if entry in parts[key]:
                raise ConfigError(
                    f'KDLayerDistiller: {key} has "{entry}", which kd_layers.{name} makes by '
                    f'itself. Rename it, or set kd_layers.{name}.decision and .loss_weight instead.'
                )
            parts[key][entry] = value
    return {**kwargs, **parts}


def mmrazor_recorders(recorders: Mapping[str, Mapping[str, Any]]) -> dict[str, dict]:
    """Make recorders' types that are mmrazor's be found whatever the scope is, given as classes too."""
    found = {}
    for name, cfg in recorders.items():
        if 'type' not in cfg:
            raise ConfigError(
                f'KDLayerDistiller: recorder "{name}" lacks "type", such as "ModuleOutputs", but has '
                f'{sorted(cfg)}.'
            )
        kind = type_name(cfg['type']).removesuffix('Recorder')
        known = f'{kind}Recorder' in TASK_UTILS.module_dict
        found[name] = dict(cfg, type=f'mmrazor.{kind}' if known else cfg['type'])
    return found
