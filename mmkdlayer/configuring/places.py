"""Chooses where KD layers go, and where a teacher is read: "inter" and "penult" (letKD, section 4)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import pooling

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.attach import suggest_names

from .probing import Call, Trace

POOLING = tuple(
    getattr(pooling, name)
    for name in ('MaxPool2d', 'AvgPool2d', 'AdaptiveAvgPool2d', 'AdaptiveMaxPool2d')
)
ROOT = 'backbone'


class UnclearPlaceError(ConfigError):
    """The network's structure does not say where a place is."""


class SmallMapError(ConfigError):
    """The network's last map is 1x1 for images of this size."""


@dataclass(frozen=True)
class Place:
    """An output of a module that is a feature map.

    Attributes:
        module: The module's dotted name.
        index: Which of its outputs, or None where it returns one tensor.
        shape: (C, H, W).
    """

    module: str
    index: int | None
    shape: tuple[int, ...]

    @property
    def kd_layer(self) -> str | dict[str, Any]:
        """As ``kd_layers`` takes it."""
        if self.index is None:
            return self.module
        return dict(module=self.module, output_index=self.index)

    def __str__(self) -> str:
        channels, height, width = self.shape
        name = self.module if self.index is None else f'{self.module}:{self.index}'
        return f'{name} ({channels} x {height}x{width})'


def _place(call: Call, index: int | None) -> Place:
    return Place(call.name, index, tuple(call.outputs[index].shape[1:]))


def _is_map(tensor: Tensor) -> bool:
    return tensor.dim() == 4 and tensor.shape[2] * tensor.shape[3] > 1


def blocks(trace: Trace) -> list[Call]:
    """The network's blocks, in order: the most frequent kind of composite module outside all others.

    Sequentials, and modules that only hold a ModuleList (DenseNet's stages), are looked into.

    Raises:
        UnclearPlaceError: No kind of block is repeated.
    """
    found = [step for step in flat_steps(trace) if trace.steps(step.name)]
    kinds = Counter(type(call.module) for call in found)
    if not kinds or max(kinds.values()) < 2:
        raise UnclearPlaceError('it has no repeated blocks')
    kind = kinds.most_common(1)[0][0]
    return [call for call in found if type(call.module) is kind]


def flat_steps(trace: Trace, name: str = ROOT) -> list[Call]:
    """What the backbone runs one after the other, with containers replaced by what they hold."""
    found = []
    for step in trace.steps(name):
        children = list(step.module.children())
        only_list = len(children) == 1 and isinstance(children[0], nn.ModuleList)
        inside = trace.steps(step.name)
        if inside and (isinstance(step.module, nn.Sequential) or only_list):
            found += flat_steps(trace, step.name)
        else:
            found.append(step)
    return found


def find_penult(trace: Trace) -> Place:
    """The last feature map before pooling: the outermost module whose output is exactly that map.

    Raises:
        UnclearPlaceError: There is no such map, or no module gives it.
        SmallMapError: It has a single position.
    """
    last, givers = _last_map(trace)
    found = [
        (index is not None, call.depth, call, index)
        for call in givers
        for index, tensor in call.outputs.items()
        if tensor is last and not call.overwritten(index)
    ]
    if not found:
        raise UnclearPlaceError('no module that runs once gives its last feature map')
    *_, call, index = min(found, key=lambda item: item[:2])
    end = max(giver.order for giver in givers)
    if any(step.order > end for step in flat_steps(trace) if trace.steps(step.name)):
        raise UnclearPlaceError('its blocks do not end in a feature map (N, C, H, W)')
    return _place(call, index)


def _last_map(trace: Trace) -> tuple[Tensor, list[Call]]:
    """The last feature map, before poolings of any kind, and all calls that give it."""
    last = _pooled_map(trace)
    while True:
        givers = [c for c in trace.once.values() if any(t is last for t in c.outputs.values())]
        pools = [call for call in givers if isinstance(call.module, POOLING)]
        if not pools:
            return last, givers
        last = pools[0].inputs[0]


def _pooled_map(trace: Trace) -> Tensor:
    """What the neck pools; without such a neck, the last map in the backbone."""
    for call in trace.within('neck'):
        maps = [tensor for tensor in call.inputs if tensor.dim() == 4]
        if maps and not any(_is_map(tensor) for tensor in call.outputs.values()):
            if not _is_map(maps[-1]):
                raise SmallMapError
            return maps[-1]
    calls = list(trace.within(ROOT))
    maps = [tensor for tensor in calls[-1].outputs.values() if _is_map(tensor)] if calls else []
    if maps:
        return maps[-1]
    found = None
    for call in calls:
        if any(_is_map(tensor) for tensor in call.outputs.values()):
            found = [tensor for tensor in call.outputs.values() if _is_map(tensor)][-1]
        elif isinstance(call.module, nn.Conv2d) and max(call.module.kernel_size) > 1:
            raise SmallMapError
    if found is None:
        raise UnclearPlaceError('none of its modules gives a feature map (N, C, H, W)')
    return found


def find_inter(trace: Trace) -> Place:
    """After the first block of the last stage: the first block with maps as small as the last one's.

    Raises:
        UnclearPlaceError: The blocks give no maps, or their sizes tell no stages apart.
    """
    chain = blocks(trace)
    if any(call.map is None for call in chain):
        raise UnclearPlaceError('its blocks do not give feature maps (N, C, H, W)')
    sizes = [call.outputs[None].shape[2:] for call in chain]
    start = len(chain) - 1
    while start > 0 and sizes[start - 1] == sizes[-1]:
        start -= 1
    run = chain[start:]
    holders = {call.name.rpartition('.')[0] for call in run}
    if start == 0 or (len(holders) > 1 and 2 * len(run) > len(chain)):
        raise UnclearPlaceError('the sizes of its maps do not tell its stages apart')
    if sizes[-1] != _last_map(trace)[0].shape[2:]:
        raise UnclearPlaceError('its blocks do not go on to its last feature map')
    if run[0].overwritten(None):
        raise UnclearPlaceError(f'the output of its block {run[0].name} is overwritten in place')
    return _place(run[0], None)


def named_place(trace: Trace, name: str, option: str) -> Place:
    """The place that the user named: ``module``, or ``module:index`` for one output of several.

    Raises:
        ConfigError: It did not run exactly once, or gives no feature map.
    """
    module, _, number = name.partition(':')
    call = trace.once.get(module)
    if call is None:
        times = trace.counts.get(module, 0)
        reason = (
            f'runs {times} times in a forward pass' if times else 'is not there or does not run'
        )
        raise ConfigError(
            f'{option} {name}: expected a module that runs once, but it {reason}. '
            f'{suggest_names(module, trace.once)}'
        )
    if number and not number.lstrip('-').isdigit():
        raise ConfigError(f'{option} {name}: expected MODULE:INDEX with a whole number as index.')
    index = int(number) if number else None
    tensor = call.outputs.get(index)
    if tensor is None or not _is_map(tensor):
        found = ', '.join(describe_outputs(call)) or 'no tensor'
        raise ConfigError(
            f'{option} {name}: expected a feature map (N, C, H, W) of more than one position, but it '
            f'gives {found}. Name another module, or one of several outputs as MODULE:INDEX.'
        )
    return _place(call, index)


def describe_outputs(call: Call) -> list[str]:
    """Each output of a module with its shape."""
    return [
        f'{"" if index is None else f":{index} "}{tuple(tensor.shape)}'
        for index, tensor in call.outputs.items()
    ]


def candidates(trace: Trace, limit: int = 40) -> str:
    """Lines that list modules which run once, with their outputs: the last ones, from the outside in."""
    rows = {call.name: call for call in (*flat_steps(trace), *trace.steps(ROOT))}
    rows.update({name: trace.once[name] for name in (ROOT, 'neck') if name in trace.once})
    if not any(_is_map(tensor) for call in rows.values() for tensor in call.outputs.values()):
        rows.update({call.name: call for call in trace.within(ROOT) if call.map is not None})
    ordered = sorted(rows.values(), key=lambda call: call.order)
    lines = []
    for call in ordered[-limit:]:
        maps = any(_is_map(tensor) for tensor in call.outputs.values())
        kind = type(call.module).__name__
        note = '' if maps else '  (no map)'
        lines.append(f'  {call.name:<40} {kind:<24} {", ".join(describe_outputs(call))}{note}')
    return '\n'.join(lines)
