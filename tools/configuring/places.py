"""Chooses where KD layers go, and where a teacher is read: "inter" and "penult".

See docs/method.md, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.attach import suggest_names

from .blocks import UnclearPlaceError, find_blocks, flat, inner_blocks, last_stage, three_quarters
from .probing import ROOT, Call, Trace

POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


@dataclass(frozen=True)
class Place:
    """An output of a module that has positions: a feature map, or tokens."""

    module: str  #: the module's dotted name
    index: int | str | None  #: which of its outputs, or None where it returns one tensor
    shape: tuple[int, ...]  #: (C, H, W)
    extra_tokens: int | None = None  #: tokens that are no positions, where the network doesn't tell
    note: str = field(default='', compare=False)  #: why it is not where one would expect it

    def __str__(self) -> str:
        channels, height, width = self.shape
        name = self.module if self.index is None else f'{self.module}:{self.index}'
        return f'{name} ({channels} x {height}x{width})'


def choose_places(trace: Trace, names: Mapping[str, str | None]) -> dict[str, Place]:
    """Find the places of a network, by its structure or by the names that the user gave.

    For each layer such a name is ``MODULE`` or ``MODULE:INDEX``, or None.

    Raises:
        ConfigError: A place is not found; the message lists candidates with their shapes.
    """
    prefix = '--teacher-' if trace.role == 'teacher' else '--'
    places: dict[str, Place] = {}
    problems = []
    for layer in sorted(names, reverse=True):  # "inter" lies before "penult"
        try:
            if (name := names[layer]) is not None:
                places[layer] = named_place(trace, name, f'{prefix}{layer}')
            elif layer == 'penult':
                places[layer] = find_penult(trace)
            else:
                places[layer] = find_inter(trace, places.get('penult'), names.get('penult'))
        except UnclearPlaceError as error:
            problems.append(f'cannot find "{layer}" ({error}): name it with {prefix}{layer} MODULE')
    if not problems and len({place.module for place in places.values()}) < len(places):
        problems = [
            f'cannot tell "inter" and "penult" apart (both are {places["penult"].module}): name '
            f'one with {prefix}inter MODULE or {prefix}penult MODULE'
        ]
    if not problems:
        return {layer: places[layer] for layer in names}
    if 'inter' in names and 'penult' in places:
        problems[-1] += ', or leave "inter" out with --letkd1'
    raise ConfigError(
        f'{trace.title}: {", and ".join(problems)}. KD layers need feature maps (N, C, H, W) or tokens '
        '(N, L, C) of a module that runs once; MODULE:INDEX is one output of several. With an '
        f'image of {trace.size} these modules output:\n{candidates(trace)}'
    )


def find_inter(trace: Trace, penult: Place | None = None, named: str | None = None) -> Place:
    """After the first block of the last stage: the first block with maps as small as the last one's.

    In a network without stages, or with one block in the last one, it is after three quarters of the
    blocks.

    Args:
        trace: A forward pass of the network.
        penult: The last place, if it is known.
        named: What the user called it, who may have chosen any.

    Raises:
        UnclearPlaceError: No kind of block is repeated, or they do not lead to the last place.
    """
    end = penult.module if penult else ''
    size = penult.shape[1:] if penult and not named else _last_size(trace)
    blocks = find_blocks(trace, size)
    stage = last_stage(blocks, size)
    if len(stage) == 1 and stage[0].name == end:
        stage = inner_blocks(stage[0])
    call = stage[0] if stage else three_quarters(trace, blocks, end)
    likely = sorted(call.maps, key=lambda index: call.maps[index].shape[1:] != size)
    place = _first_that_counts(trace, call, likely)
    if place is None:
        raise UnclearPlaceError(f'the logits depend on no position of what {call.name} returns')
    return place


def find_penult(trace: Trace) -> Place:
    """The last map before pooling: the outermost module whose output is exactly that map.

    Where the head reads a class token, the other tokens after the last block reach no logit; then it is
    after the last block whose tokens do.

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
    blocks = [step for step in flat(trace) if step.steps]
    if any(step.order > sources[-1].order for step in blocks):
        raise UnclearPlaceError('its blocks do not end in a map or tokens of several positions')
    *_, order, index = min(found, key=lambda item: item[:3])
    outermost = next(call for call in sources if call.order == order)
    place = _first_that_counts(trace, outermost, [index])
    if place:
        return place
    blocks = [block for block in blocks if block.maps]
    for block in reversed(blocks):
        place = _first_that_counts(trace, block, list(block.maps))
        if place:
            why = (
                f'its logits come from a class token, which the other tokens of the last block, '
                f'{blocks[-1].name}, do not reach; {place.module} is the last block whose tokens do'
            )
            return replace(place, note=why if blocks[-1] is not block else '')
    raise UnclearPlaceError('the logits depend on no position of what its blocks return')


def _first_that_counts(trace: Trace, call: Call, indices: list[int | str | None]) -> Place | None:
    """The first of a module's outputs that the logits depend on.

    What is overwritten in place afterwards can't be read of a teacher. A student's KD layer
    returns a new tensor, and it is that one which is overwritten.

    Raises:
        UnclearPlaceError: All the outputs of a teacher's module are overwritten.
    """
    if trace.role == 'teacher':
        if all(call.overwritten(index) for index in indices):
            raise UnclearPlaceError(f'the output of its block {call.name} is overwritten in place')
        indices = [index for index in indices if not call.overwritten(index)]
    return next((_place(call, index) for index in indices if trace.reaches(call, index)), None)


def _last_map(trace: Trace) -> tuple[Tensor, list[Call]]:
    """The last map or tokens, before poolings of any kind, and all calls that output it."""
    last: Tensor | None = None
    for call in trace.once.values():
        if call.name.split('.')[0] not in (ROOT, 'neck'):
            continue
        maps = [call.outputs[index] for index in call.maps]
        if maps:
            last = maps[-1]
        elif isinstance(call.module, nn.Conv2d) and max(call.module.kernel_size) > 1:
            raise ConfigError(
                f'{trace.title}: its last feature map for images of {trace.size} is 1x1, so there are '
                'no regions to compare. Choose a larger --image-size, or a network for small images.'
            )
    if last is None:
        raise UnclearPlaceError('none of its modules outputs a map or tokens of several positions')
    while True:
        sources = [c for c in trace.once.values() if any(t is last for t in c.outputs.values())]
        pools = [call for call in sources if isinstance(call.module, POOLING)]
        if not pools:
            return last, sources
        last = pools[0].inputs[0]


def _last_size(trace: Trace) -> tuple[int, ...]:
    """(H, W) of the last map or tokens."""
    last, sources = _last_map(trace)
    found = [call.maps[i].shape for call in sources for i in call.maps if call.outputs[i] is last]
    return found[0][1:] if found else tuple(last.shape[2:])


def named_place(trace: Trace, name: str, option: str) -> Place:
    """The place that the user named: ``module``, or ``module:index`` for one output of several.

    Raises:
        ConfigError: It did not run exactly once, or outputs no feature map.
    """
    module, _, part = name.partition(':')
    call = trace.once.get(module)
    if call is None:
        times = trace.counts[module]
        reason = f'runs {times} times' if times else 'is not there or does not run'
        raise ConfigError(
            f'{option} {name}: expected a module that runs once in a forward pass, but it {reason}. '
            f'{suggest_names(module, trace.once)}'
        )
    index = int(part) if part.isdigit() else part or None
    if index not in call.maps:
        raise ConfigError(
            f'{option} {name}: expected a feature map (N, C, H, W) or tokens (N, L, C) of more than one '
            f'position, but it outputs {describe(call)}. Name another module, or one of several '
            'outputs as MODULE:INDEX.'
        )
    if trace.role == 'teacher' and call.overwritten(index):
        raise ConfigError(
            f'{option} {name}: its output is overwritten in place by what runs next, so it can no '
            'longer be read afterwards. Name another module.'
        )
    if trace.role == 'student' and not trace.reaches(call, index):
        raise ConfigError(
            f'{option} {name}: the logits depend on no position there, so a KD layer would have no '
            'effect. Where a head reads a class token, that holds for the other tokens after the last '
            'block: name a block before it.'
        )
    return _place(call, index)


def _place(call: Call, index: int | str | None) -> Place:
    found = call.maps[index]
    extra = found.layout.extra if found.layout and not found.told else None
    return Place(call.name, index, found.shape, extra)


def candidates(trace: Trace, limit: int = 40) -> str:
    """Lines that list modules which run once, with their outputs: the last ones, from the outside in."""
    names = {call.name for call in (*flat(trace), *trace.steps)} | {ROOT, 'neck'}
    if not any(call.maps for name, call in trace.once.items() if name in names):
        names |= {call.name for call in trace.once.values() if call.maps}
    lines = []
    for name in [name for name in trace.once if name in names][-limit:]:
        call = trace.once[name]
        note = '' if call.maps else '  (no map)'
        lines.append(f'  {name:<40} {type(call.module).__name__:<24} {describe(call)}{note}')
    return '\n'.join(lines)


def describe(call: Call) -> str:
    """Each output with its shape."""
    shapes = [(index, tuple(tensor.shape)) for index, tensor in call.outputs.items()]
    return ', '.join(f'{"" if i is None else f":{i} "}{s}' for i, s in shapes) or 'no tensor'
