"""Makes a student's KD layers small: folds them, and leaves out templates that never fire."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.connectors import KDLayerConnector

from .folded_kd_layer import FoldedKDLayer, fold_layer


def fold_student(model_cfg: dict, student: Any) -> list[str]:
    """Fold each KD layer of a student and its config, in place; layers of other kinds stay.

    Gives a sentence for each layer that lost templates by it.

    Raises:
        ConfigError: A layer can't be folded.
    """
    changes = []
    for name, layer in list(getattr(student, 'kd_layers', {}).items()):
        if not isinstance(layer, KDLayerConnector):
            continue
        folded = fold_layer(layer)
        _replace_layer(model_cfg, student, name, folded)
        kept = folded.num_templates if folded is not None else 0
        reason = 'add nothing (alpha is 0)' if layer.alpha == 0 else 'cannot fire on any input'
        if kept < layer.num_templates:
            changes.append(_change(name, layer.num_templates, kept, reason))
    return changes


def prune_student(
    model_cfg: dict, student: Any, firing: dict[str, Tensor], images: str
) -> list[str]:
    """Leave out the templates of a folded student that do not fire, in place.

    Where ``q_k`` is 0 at every position, neither the norm of q nor the sum over the templates has a part
    of it: on images where nothing else fires, logits stay the same up to rounding. ``firing`` says for
    each layer, by a bool (K,), which templates stay; ``images`` where they were watched, for the report.

    Raises:
        ConfigError: No template of a layer fires.
    """
    changes = []
    for name, fires in firing.items():
        layer = student.kd_layers[name]
        kept = int(fires.sum())
        if not kept:
            raise ConfigError(
                f'KD layer {name}: none of its {layer.num_templates} templates fires on {images}. '
                'Prune on images like those of the training.'
            )
        _replace_layer(model_cfg, student, name, layer.keep(fires))
        changes.append(_change(name, layer.num_templates, kept, f'do not fire on {images}'))
    return changes


def _change(name: str, templates: int, kept: int, reason: str) -> str:
    """What became of a KD layer; without templates it adds nothing."""
    gone = '' if kept else '; the layer is removed'
    return f'KD layer {name}: {templates - kept} of {templates} templates {reason}{gone}'


def _replace_layer(model_cfg: dict, student: Any, name: str, layer: FoldedKDLayer | None) -> None:
    """Put a folded layer (or none) into the student, and into the ``kd_layers`` of its config."""
    if layer is None:
        del model_cfg['kd_layers'][name], student.kd_layers[name]
        return
    declared = {k: v for k, v in model_cfg['kd_layers'][name].items() if k != 'alpha'}
    declared.update(num_templates=layer.num_templates, layer=dict(type='mmkdlayer.FoldedKDLayer'))
    model_cfg['kd_layers'][name] = declared  # whose alpha is folded into the weights
    student.kd_layers[name] = layer
