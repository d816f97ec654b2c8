"""The declaration of a KD layer in a config: one dict that says all there is to say about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from inspect import signature
from keyword import iskeyword
from numbers import Integral, Real
from typing import Any

from torch import nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.connectors import KDLayerConnector
from mmkdlayer.models.decisions import TeacherDecision, build_decision
from mmkdlayer.registry import MODELS

#: Keys that say how a teacher supervises the layer: the distiller has them, the student alone does not.
TEACHER_KEYS = (
    *('teacher', 'teacher_index', 'teacher_extra_tokens', 'teacher_grid'),
    *('decision', 'loss_weight'),
)

#: How a layer is declared, for messages.
EXAMPLE = (
    'dict(module="backbone.layer4", in_channels=512, teacher="backbone.layer4", '
    'decision=dict(type="mmkdlayer.CentroidDecision", num_centroids=4096))'
)
#: Elements of the templates' weight above which a layer is refused before it is built: 4 GiB.
MOST_WEIGHTS = 1 << 30


@dataclass(frozen=True)
class KDLayerOptions:
    """A KD layer: where it is, what it is, and what supervises it.

    Attributes:
        module: Name of the student module whose output passes through the layer.
        in_channels: C, channels of the map there.
        num_templates: K. It follows from ``decision``, and is stated only where there is none.
        alpha: Weight of what is fed forward; None for the layer's default, 1.0.
        output_index: Which output of a module that returns several: a number, or a name of a mapping's.
        extra_tokens: Of a module that returns tokens, how many at the beginning are no positions (class,
            register and distillation tokens); None where the network tells.
        grid: Of the others, the height and width; None where the network or the image tells.
        layer: Further arguments of the layer (:class:`KDLayerConnector`, or another ``type``).
        teacher: Name of the teacher module that supervises the layer.
        teacher_index, teacher_extra_tokens, teacher_grid: As ``output_index``, ``extra_tokens`` and
            ``grid``, for the teacher's module.
        decision: What supervises the scores, a :class:`TeacherDecision` or its config; None for a layer
            without supervision.
        loss_weight: Weight of that loss.
    """

    module: str
    in_channels: int
    num_templates: int = 0
    alpha: float | None = None
    output_index: int | str | None = None
    extra_tokens: int | None = None
    grid: tuple[int, int] | None = None
    layer: Mapping[str, Any] = field(default_factory=dict)
    teacher: str | None = None
    teacher_index: int | str | None = None
    teacher_extra_tokens: int | None = None
    teacher_grid: tuple[int, int] | None = None
    decision: TeacherDecision | None = None
    loss_weight: float = 1.0

    def loss_options(self) -> dict[str, Any]:
        """Arguments of the :class:`TeacherDecisionLoss` that supervises the layer."""
        options: dict[str, Any] = dict(decision=self.decision, loss_weight=self.loss_weight)
        if self.layer.get('implementation') == 'triton':
            options['implementation'] = 'triton'
        return options

    def feature_options(self) -> dict[str, Any]:
        """Arguments of the :class:`TeacherFeature` that the loss reads."""
        return dict(
            module=self.teacher,
            index=self.teacher_index,
            extra_tokens=self.teacher_extra_tokens,
            grid=self.teacher_grid,
        )

    def build_layer(self) -> nn.Module:
        """The layer itself, with weights of its own.

        Raises:
            ConfigError: There is no such layer, it has no such arguments, or it is too large.
        """
        if self.in_channels * self.num_templates > MOST_WEIGHTS:
            size = 8 * self.in_channels * self.num_templates / 2**30
            raise ConfigError(
                f'The KD layer after "{self.module}" would have K={self.num_templates} templates of '
                f'{self.in_channels} channels, whose weights alone take {size:.0f} GiB. Choose fewer: '
                'num_centroids or num_subclasses of its decision, or num_templates.'
            )
        cfg: dict[str, Any] = dict(
            type='mmkdlayer.KDLayerConnector',
            in_channels=self.in_channels,
            num_templates=self.num_templates,
        )
        cfg.update({} if self.alpha is None else dict(alpha=self.alpha), **self.layer)
        try:
            return MODELS.build(cfg)
        except (KeyError, TypeError) as error:
            raise ConfigError(
                f'The KD layer after "{self.module}": {cfg} makes no layer ({error}). Correct '
                'layer=dict(...) in its declaration.'
            ) from error


KEYS = tuple(option.name for option in fields(KDLayerOptions))
_INDEX = ((Integral, str), 'an integer, or the name of an output')
_EXTRA = (Integral, 'a number of tokens')
_GRID = (Sequence, 'two positive integers, (height, width)')
_TYPES: dict[str, tuple[type | tuple[type, ...], str]] = dict(
    module=(str, 'the name of a student module, such as "backbone.layer4"'),
    in_channels=(Integral, 'a positive integer'),
    num_templates=(Integral, 'a positive integer'),
    alpha=(Real, 'a number'),
    output_index=_INDEX,
    extra_tokens=_EXTRA,
    grid=_GRID,
    layer=(Mapping, 'a dict of further arguments of the layer'),
    teacher=(str, 'the name of a teacher module, such as "backbone.layer4"'),
    teacher_index=_INDEX,
    teacher_extra_tokens=_EXTRA,
    teacher_grid=_GRID,
    decision=((Mapping, TeacherDecision), 'a dict such as dict(type="mmkdlayer.CentroidDecision")'),
    loss_weight=(Real, 'a number of at least 0'),
)

_LEAST = dict(in_channels=1, num_templates=1, loss_weight=0, extra_tokens=0, teacher_extra_tokens=0)


def parse_kd_layers(
    kd_layers: Mapping[str, Any] | None, owner: str, with_teacher: bool = True
) -> dict[str, KDLayerOptions]:
    """Read ``kd_layers`` of a config; decisions are built, and K is derived from them.

    ``owner`` is whose argument it is, for messages; without teacher its keys are refused.

    Raises:
        ConfigError: A key is missing, unknown or of the wrong type, or keys contradict each other.
        DecisionFileError: The file of a decision does not fit.
    """
    if not isinstance(kd_layers or {}, Mapping):
        raise ConfigError(
            f'{owner}: kd_layers must be a dict of layers by name, such as dict(penult=dict(...)), but '
            f'got {kd_layers!r}.'
        )
    return {
        name: _parse(name, given, owner, with_teacher) for name, given in (kd_layers or {}).items()
    }


def _parse(name: str, given: Any, owner: str, with_teacher: bool) -> KDLayerOptions:
    key = f'{owner}: kd_layers.{name}'
    if (
        not isinstance(name, str)
        or not name.isidentifier()
        or iskeyword(name)
        or hasattr(nn.ModuleDict, name)
    ):
        raise ConfigError(
            f'{key}: a layer must have an identifier as its name, such as "inter", and none that torch '
            'uses, such as "keys" or "train".'
        )
    if not isinstance(given, Mapping):
        raise ConfigError(f'{key} must be a dict such as {EXAMPLE}, but got {given!r}.')
    given = {option: value for option, value in given.items() if value is not None}
    for option, value in given.items():
        _check_option(key, option, value, with_teacher)
    for option in ('module', 'in_channels'):
        if option not in given:
            raise ConfigError(f'{key} lacks "{option}": expected {_TYPES[option][1]}.')
    of_teacher = [option for option in TEACHER_KEYS if option in given]
    for needed in ('decision', 'teacher') if of_teacher else ():
        if needed not in given:
            raise ConfigError(
                f'{key} has "{of_teacher[0]}" but no "{needed}". A supervised layer needs both: the '
                'teacher module that supervises it, and the decision that is made of its features. '
                f'Take {", ".join(of_teacher)} out for a layer without supervision.'
            )
    twice = sorted(set(given.get('layer', ())) & {'in_channels', 'num_templates', 'alpha'})
    if twice:
        raise ConfigError(
            f'{key}.layer has {twice}, which stand beside it: write {key}.{twice[0]}, or leave it to '
            'the decision.'
        )
    if ('decision' in given) == ('num_templates' in given):
        raise ConfigError(
            f'{key}: num_templates follows from the decision. Take num_templates out.'
            if 'decision' in given
            else f'{key} lacks "num_templates", which a layer without a decision must state.'
        )
    if 'decision' in given:
        given['decision'] = build_decision(given['decision'], f'{key}.decision')
        given['num_templates'] = given['decision'].num_templates
    for option in ('grid', 'teacher_grid'):
        if option in given:
            given[option] = tuple(given[option])
    return KDLayerOptions(**given)


def _check_option(key: str, option: str, value: Any, with_teacher: bool) -> None:
    if option not in KEYS:
        keys = [known for known in KEYS if with_teacher or known not in TEACHER_KEYS]
        near = get_close_matches(str(option), keys, n=1)
        hint = f'Did you mean "{near[0]}"?' if near else f'The keys are {", ".join(keys)}.'
        if option == 'type' or option in signature(KDLayerConnector).parameters:
            hint = f'It is an argument of the layer: write layer=dict({option}={value!r}).'
        raise ConfigError(f'{key} has the unknown key "{option}". {hint}')
    if option in TEACHER_KEYS and not with_teacher:
        raise ConfigError(
            f'{key} has "{option}", but there is no teacher here. Take {", ".join(TEACHER_KEYS)} out '
            'and state num_templates.'
        )
    kind, expected = _TYPES[option]
    fits = isinstance(value, kind) and not isinstance(value, bool)
    if isinstance(value, Real):
        fits = fits and math.isfinite(value)
    if kind is Sequence and fits:
        fits = len(value) == 2 and all(type(part) is int and part > 0 for part in value)
    if not fits or (option in _LEAST and value < _LEAST[option]):
        raise ConfigError(f'{key}.{option} must be {expected}, but got {value!r}.')


def standalone_kd_layers(kd_layers: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """``kd_layers`` of a student alone, from those of a distiller: without teacher, with K stated.

    Files of decisions are not read. Errors as of :func:`parse_kd_layers`.
    """
    standalone = {}
    for name, given in kd_layers.items():
        if not isinstance(given, Mapping):
            raise ConfigError(
                f'kd_layers.{name} must be a dict such as {EXAMPLE}, but got {given!r}.'
            )
        own = {key: value for key, value in given.items() if key not in TEACHER_KEYS}
        if given.get('decision') is not None:
            unfitted = {key: value for key, value in given['decision'].items() if key != 'file'}
            own['num_templates'] = build_decision(unfitted, f'kd_layers.{name}').num_templates
        standalone[name] = own
    return standalone
