"""Chooses where KD layers go, and where a teacher is read: "inter" and "penult".

See docs/method.md, section 4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.attach import suggest_names

from .probing import ROOT, Call, Trace

POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


class UnclearPlaceError(ConfigError):
    """The network's structure does not say where a place is."""


@dataclass(frozen=True)
class Place:
    """An output of a module that is a feature map."""

    module: str  #: the module's dotted name
    index: int | None  #: which of its outputs, or None where it returns one tensor
    shape: tuple[int, ...]  #: (C, H, W)

    def __str__(self) -> str:
        channels, height, width = self.shape
        name = self.module if self.index is None else f'{self.module}:{self.index}'
        return f'{name} ({channels} x {height}x{width})'


def choose_places(trace: Trace, names: Mapping[str, str | None]) -> dict[str, Place]:
    """Find the places of a network, by its structure or by the names that the user gave.

    Args:
        trace: A forward pass of the network.
        names: For each layer the user's ``MODULE`` or ``MODULE:INDEX``, or None to find it.

    Raises:
        ConfigError: A place is not found; the message lists candidates with their shapes.
    """
    prefix = '--teacher-' if trace.role == 'teacher' else '--'
    places: dict[str, Place] = {}
    problems = []
    for layer, name in names.items():
        try:
            if name is not None:
                places[layer] = named_place(trace, name, f'{prefix}{layer}')
            else:
                places[layer] = find_inter(trace) if layer == 'inter' else find_penult(trace)
        except UnclearPlaceError as error:
            problems.append(f'cannot find "{layer}" ({error}): name it with {prefix}{layer} MODULE')
    if not problems and len({place.module for place in places.values()}) < len(places):
        problems = [
            f'cannot tell "inter" and "penult" apart (both are {places["penult"].module}): name '
            f'one with {prefix}inter MODULE or {prefix}penult MODULE'
        ]
    if not problems:
        return places
    if 'inter' in names and 'penult' in places:
        problems[-1] += ', or leave "inter" out with --letkd1'
    raise ConfigError(
        f'{trace.title}: {", and ".join(problems)}. KD layers need feature maps '
        '(N, C, H, W) of a module that runs once; MODULE:INDEX is one output of several. With an '
        f'image of {trace.size} these modules output:\n{candidates(trace)}'
    )


def find_inter(trace: Trace) -> Place:
    """After the first block of the last stage: the first block with maps as small as the last one's.

    Blocks are the most frequent kind of composite module outside all others.

    Raises:
        UnclearPlaceError: No kind of block is repeated, the blocks output no maps, or their
            sizes do not tell the stages apart.
    """
    found = [step for step in _flat(trace.steps) if step.steps]
    kinds = Counter(type(call.module) for call in found).most_common(1)
    if not kinds or kinds[0][1] < 2:
        raise UnclearPlaceError('it has no repeated blocks')
    blocks = [call for call in found if type(call.module) is kinds[0][0]]
    if any(None not in call.outputs or call.outputs[None].dim() != 4 for call in blocks):
        raise UnclearPlaceError('its blocks do not output feature maps (N, C, H, W)')
    sizes = [call.outputs[None].shape[2:] for call in blocks]
    start = len(blocks) - 1
    while start > 0 and sizes[start - 1] == sizes[-1]:
        start -= 1
    stage = blocks[start:]
    holders = {call.name.rpartition('.')[0] for call in stage}
    if start == 0 or (len(holders) > 1 and 2 * len(stage) > len(blocks)):
        raise UnclearPlaceError('the sizes of its maps do not tell its stages apart')
    if sizes[-1] != _last_map(trace)[0].shape[2:]:
        raise UnclearPlaceError('its blocks do not lead to its last feature map')
    if stage[0].overwritten(None):
        raise UnclearPlaceError(f'the output of its block {stage[0].name} is overwritten in place')
    return _place(stage[0], None)


def _flat(steps: list[Call]) -> Iterator[Call]:
    """What ran one after the other, with Sequentials and holders of a ModuleList looked into."""
    for step in steps:
        children = list(step.module.children())
        only_list = len(children) == 1 and isinstance(children[0], nn.ModuleList)
        if step.steps and (isinstance(step.module, nn.Sequential) or only_list):
            yield from _flat(step.steps)
        else:
            yield step


def find_penult(trace: Trace) -> Place:
    """The last feature map before pooling: the outermost module whose output is exactly that map.

    Raises:
        UnclearPlaceError: There is no such map, or no module outputs it.
        ConfigError: It has a single position.
    """
    last, sources = _last_map(trace)
    found = [
        (index is not None, call.name.count('.'), call.order, index)
        for call in sources
        for index, tensor in call.outputs.items()
        if tensor is last and not call.overwritten(index)
    ]
    if not found:
        raise UnclearPlaceError('no module that runs once outputs its last feature map')
    end = sources[-1].order
    if any(step.order > end for step in _flat(trace.steps) if step.steps):
        raise UnclearPlaceError('its blocks do not end in a feature map (N, C, H, W)')
    *_, order, index = min(found, key=lambda item: item[:3])
    return _place(next(call for call in sources if call.order == order), index)


def _last_map(trace: Trace) -> tuple[Tensor, list[Call]]:
    """The last feature map, before poolings of any kind, and all calls that output it."""
    last: Tensor | None = None
    for call in trace.once.values():
        if call.name.split('.')[0] not in (ROOT, 'neck'):
            continue
        if _maps(call):
            last = _maps(call)[-1]
        elif isinstance(call.module, nn.Conv2d) and max(call.module.kernel_size) > 1:
            raise ConfigError(
                f'{trace.title}: its last feature map for images of {trace.size} is 1x1, so there are '
                'no regions to compare. Choose a larger --image-size, or a network for small images.'
            )
    if last is None:
        raise UnclearPlaceError('none of its modules outputs a feature map (N, C, H, W)')
    while True:
        sources = [c for c in trace.once.values() if any(t is last for t in c.outputs.values())]
        pools = [call for call in sources if isinstance(call.module, POOLING)]
        if not pools:
            return last, sources
        last = pools[0].inputs[0]


def named_place(trace: Trace, name: str, option: str) -> Place:
    """The place that the user named: ``module``, or ``module:index`` for one output of several.

    Raises:
        ConfigError: It did not run exactly once, or outputs no feature map.
    """
    module, _, number = name.partition(':')
    call = trace.once.get(module)
    if call is None:
        times = trace.counts[module]
        reason = f'runs {times} times' if times else 'is not there or does not run'
        raise ConfigError(
            f'{option} {name}: expected a module that runs once in a forward pass, but it {reason}. '
            f'{suggest_names(module, trace.once)}'
        )
    if number and not number.isdigit():
        raise ConfigError(f'{option} {name}: expected MODULE:INDEX with a whole number as index.')
    index = int(number) if number else None
    if index not in call.outputs or not _is_map(call.outputs[index]):
        raise ConfigError(
            f'{option} {name}: expected a feature map (N, C, H, W) of more than one position, but it '
            f'outputs {_describe(call)}. Name another module, or one of several outputs as MODULE:INDEX.'
        )
    return _place(call, index)


def _place(call: Call, index: int | None) -> Place:
    return Place(call.name, index, tuple(call.outputs[index].shape[1:]))


def candidates(trace: Trace, limit: int = 40) -> str:
    """Lines that list modules which run once, with their outputs: the last ones, from the outside in."""
    names = {call.name for call in (*_flat(trace.steps), *trace.steps)} | {ROOT, 'neck'}
    if not any(_maps(call) for name, call in trace.once.items() if name in names):
        names |= {call.name for call in trace.once.values() if _maps(call)}
    lines = []
    for name in [name for name in trace.once if name in names][-limit:]:
        call = trace.once[name]
        note = '' if _maps(call) else '  (no map)'
        lines.append(f'  {name:<40} {type(call.module).__name__:<24} {_describe(call)}{note}')
    return '\n'.join(lines)


def _describe(call: Call) -> str:
    """Each output with its shape."""
    shapes = [(index, tuple(tensor.shape)) for index, tensor in call.outputs.items()]
    return ', '.join(f'{"" if i is None else f":{i} "}{s}' for i, s in shapes) or 'no tensor'


def _maps(call: Call) -> list[Tensor]:
    """The outputs that are feature maps of more than one position."""
    return [tensor for tensor in call.outputs.values() if _is_map(tensor)]


def _is_map(tensor: Tensor) -> bool:
    return tensor.dim() == 4 and tensor.shape[2] * tensor.shape[3] > 1
