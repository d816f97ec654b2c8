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
        or (isinstance(place, Mapping) and name in connectors and set(place) <= PLACE_KEYS)
    ]
    if not old:
        return
    new = {name: _in_new_form(name, kd_layers[name], others) for name in old}
    text = Config(dict(kd_layers=new)).pretty_text.replace('Ellipsis', '...')
    raise ConfigError(
        'KDLayerDistiller: a KD layer is declared once, in kd_layers, with its sizes, its teacher and '
        'its decision. Its connector, recorders, loss and loss_forward_mappings follow from that: take '
        f'them out of the distiller, and write there\n\n{text}'
    )


def _in_new_form(name: str, place: Any, others: Mapping[str, Any]) -> dict[str, Any]:
    """One layer as it is written now; what is not known stands as ``...``."""
    layer = dict(place) if isinstance(place, Mapping) else dict(module=place)
    connector = dict((others.get('connectors') or {}).get(name) or {})
    if type_name(connector.get('type')) == 'KDLayerConnector':
        del connector['type']
    templates = connector.pop('num_templates', ...)
    layer['in_channels'] = connector.pop('in_channels', ...)
    layer.update({key: connector.pop(key) for key in _OWN_KEYS if key in connector})
    if connector:
        layer['layer'] = connector
    for loss_name, mapping in (others.get('loss_forward_mappings') or {}).items():
        recorders = others.get('student_recorders') or {}
        scores = recorders.get((mapping.get('scores') or {}).get('recorder')) or {}
        if scores.get('source') != f'kd_layers.{name}.templates':
            continue
        feature = mapping.get('teacher_feature') or {}
        recorder = (others.get('teacher_recorders') or {}).get(feature.get('recorder')) or {}
        loss = (others.get('distill_losses') or {}).get(loss_name) or {}
        layer['teacher'] = recorder.get('source', ...)
        if 'data_idx' in feature:
            layer['teacher_index'] = feature['data_idx']
        layer['decision'] = loss.get('decision', ...)
        if 'loss_weight' in loss:
            layer['loss_weight'] = loss['loss_weight']
        return layer
    layer['num_templates'] = templates
    return layer
