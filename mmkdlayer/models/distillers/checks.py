"""Whether the arguments of a distiller are known, and each of them is used."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Any

from torch import nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.attach import suggest_names
from mmkdlayer.models.kd_layer_options import EXAMPLE
from mmkdlayer.type_names import type_name

#: Arguments of mmrazor's distiller that are dicts by name.
PARTS = (
    *('student_recorders', 'teacher_recorders', 'distill_deliveries', 'connectors'),
    *('distill_losses', 'loss_forward_mappings'),
)


def check_flags(**flags: Any) -> None:
    """Raise a ConfigError where one is neither True nor False."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ConfigError(f'KDLayerDistiller: {name} must be True or False, but got {value!r}.')


def check_arguments(distiller: type, given: Mapping[str, Any]) -> None:
    """Refuse arguments that a distiller and its bases don't have, and KD layers in a wrong place.

    Raises:
        ConfigError: The message lists near matches; or an argument is no dict.
    """
    known = {
        parameter.name
        for base in distiller.__mro__
        if '__init__' in vars(base)
        for parameter in signature(base.__init__).parameters.values()  # type: ignore[misc]
        if parameter.kind is not Parameter.VAR_KEYWORD and parameter.name != 'self'
    }
    for name in given:
        if name not in known:
            raise ConfigError(
                f'KDLayerDistiller has no argument "{name}". {suggest_names(name, sorted(known))}'
            )
    for name in PARTS:
        _items(given.get(name) or {}, f'KDLayerDistiller: {name}')
    for name, cfg in (given.get('connectors') or {}).items():
        if isinstance(cfg, Mapping) and type_name(cfg.get('type')) == 'KDLayerConnector':
            raise ConfigError(
                f'KDLayerDistiller: connectors has the KD layer "{name}", which would not run in the '
                f'student. Declare it once, in kd_layers: {name}={EXAMPLE}. Its connector, recorders, '
                'loss and loss_forward_mappings follow from that.'
            )


def without_none(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a distiller without entries that are None."""
    taken_out = {
        name: {key: value for key, value in given[name].items() if value is not None}
        for name in PARTS
        if given.get(name)
    }
    return {**given, **taken_out}


def check_mappings(given: Mapping[str, Any]) -> None:
    """Check that ``loss_forward_mappings`` name what is there, and that each loss and connector is used.

    Raises:
        ConfigError: A name is unknown (the message lists near matches), or a loss or a connector would
            never run.
    """
    mappings = given.get('loss_forward_mappings') or {}
    losses, connectors = given.get('distill_losses') or {}, given.get('connectors') or {}
    used = set()
    for loss, inputs in _items(mappings, 'loss_forward_mappings'):
        key = f'KDLayerDistiller: loss_forward_mappings.{loss}'
        _check_known(loss, losses, key, 'distill_losses')
        for name, record in _items(inputs, key):
            key_of_input = f'{key}.{name}'
            found = dict(_items(record, key_of_input))
            if 'recorder' not in found or not isinstance(found.get('from_student'), bool):
                raise ConfigError(
                    f'{key_of_input} must be a dict such as dict(recorder="feature", '
                    f'from_student=True), but got {found!r}.'
                )
            group = 'student_recorders' if found['from_student'] else 'teacher_recorders'
            _check_known(
                found['recorder'], given.get(group) or {}, f'{key_of_input}.recorder', group
            )
            if found.get('connector') is not None:
                _check_known(
                    found['connector'], connectors, f'{key_of_input}.connector', 'connectors'
                )
                used.add(found['connector'])
    for what, names in (
        ('distill_losses', set(losses) - set(mappings)),
        ('connectors', set(connectors) - used),
    ):
        if names:
            raise ConfigError(
                f'KDLayerDistiller: {what} has {", ".join(sorted(names))}, which would never run: no '
                'entry of loss_forward_mappings uses it. Add one, or take it out (NAME=None where it is '
                'inherited).'
            )


def check_inputs(
    losses: Mapping[str, nn.Module] | nn.ModuleDict, mappings: Mapping[str, Any]
) -> None:
    """Raise a ConfigError where a loss needs an input that its mapping does not give."""
    for name, inputs in mappings.items():
        missing = [
            parameter.name
            for parameter in signature(losses[name].forward).parameters.values()
            if parameter.default is Parameter.empty
            and parameter.kind is Parameter.POSITIONAL_OR_KEYWORD
            and parameter.name not in inputs
        ]
        if missing:
            raise ConfigError(
                f'KDLayerDistiller: loss_forward_mappings.{name} lacks {", ".join(missing)}, which '
                f'{type(losses[name]).__name__} needs; it has {", ".join(inputs) or "nothing"}.'
            )


def _items(value: Any, key: str) -> Any:
    if not isinstance(value, Mapping):
        raise ConfigError(f'{key} must be a dict, but got {value!r}.')
    return value.items()


def _check_known(name: Any, known: Mapping[str, Any], key: str, where: str) -> None:
    if name not in known:
        hint = suggest_names(str(name), known) if known else f'There are no {where}.'
        raise ConfigError(f'{key}: there is no "{name}" in {where}. {hint}')
