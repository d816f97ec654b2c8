"""The form in which KD layers were declared before 0.1.0, shown in the new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from mmkdlayer.errors import ConfigError
from mmkdlayer.type_names import type_name

#: Keys of a place that was not the name of a module alone.
PLACE_KEYS = {'module', 'output_index'}
#: Arguments of a connector that stand beside ``module`` in the new form.
_OWN_KEYS = ('in_channels', 'alpha')


def refuse_old_form(kd_layers: Mapping[str, Any], others: Mapping[str, Any]) -> None:
    """Raise an error that shows the new form, filled in, where a config has the old one.

    Args:
        kd_layers: The argument of that name; in the old form, the place of each layer.
        others: The distiller's other arguments, among which the rest was spread.

    Raises:
        ConfigError: It is the old form.
    """
    connectors = others.get('connectors') or {}
    if not isinstance(kd_layers, Mapping):
        return
    old = [
        name
        for name, place in kd_layers.items()
        if isinstance(place, str)
        or (
            isinstance(place, Mapping)
            and name in connectors
            and (
                set(place) <= PLACE_KEYS
                or ('in_channels' not in place and _is_kd_layer(connectors[name]))
            )
        )
    ]
    if not old:
        return
    new = {
        name: _in_new_form(name, place, others) if name in old else place
        for name, place in kd_layers.items()
    }
    text = Config(dict(kd_layers=new)).pretty_text.replace('Ellipsis', '...')
    raise ConfigError(
        'KDLayerDistiller: a KD layer is declared once, in kd_layers, with its sizes, its teacher and '
        'its decision. Its connector, recorders, loss and loss_forward_mappings follow from that: take '
        f'them out of the distiller, and write there\n\n{text}'
    )


def _is_kd_layer(connector: Any) -> bool:
    return isinstance(connector, Mapping) and type_name(connector.get('type')) == 'KDLayerConnector'


def _in_new_form(name: str, place: Any, others: Mapping[str, Any]) -> dict[str, Any]:
    """One layer as it is written now; what is not known stands as ``...``."""
    layer = dict(place) if isinstance(place, Mapping) else dict(module=place)
    connector = dict((others.get('connectors') or {}).get(name) or {})
    if _is_kd_layer(connector):
        del connector['type']
    templates = connector.pop('num_templates', ...)
    found = {key: connector.pop(key) for key in _OWN_KEYS if key in connector}
    found.update(_supervision(name, others))
    for key, value in found.items():
        layer.setdefault(key, value)  # what is in the new form already stays as it is
    layer.setdefault('in_channels', ...)
    if connector:
        layer['layer'] = {**connector, **(layer.get('layer') or {})}
    if 'decision' in layer or 'teacher' in layer:
        layer.setdefault('teacher', ...)
        layer.setdefault('decision', ...)
    else:
        layer.setdefault('num_templates', templates)
    return layer


def _supervision(name: str, others: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of the teacher, from the loss that reads the layer's scores; none where there is none."""
    for loss_name, mapping in (others.get('loss_forward_mappings') or {}).items():
        recorders = others.get('student_recorders') or {}
        mapping = mapping or {}  # None takes an inherited one out
        scores = recorders.get((mapping.get('scores') or {}).get('recorder')) or {}
        if scores.get('source') != f'kd_layers.{name}.templates':
            continue
        feature = mapping.get('teacher_feature') or {}
        recorder = (others.get('teacher_recorders') or {}).get(feature.get('recorder')) or {}
        loss = (others.get('distill_losses') or {}).get(loss_name) or {}
        keys = dict(teacher=recorder.get('source', ...), decision=loss.get('decision', ...))
        if 'data_idx' in feature:
            keys['teacher_index'] = feature['data_idx']
        if 'loss_weight' in loss:
            keys['loss_weight'] = loss['loss_weight']
        return keys
    return {}
