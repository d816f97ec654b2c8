"""The blocks of a network, in the order in which they run, and those of its last stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import nn

from mmkdlayer.errors import ConfigError

from .probing import Call, Trace


class UnclearPlaceError(ConfigError):
    """The network's structure does not say where a place is."""


def flat(trace: Trace) -> list[Call]:
    """What the backbone runs one after the other, with Sequentials and stages looked into."""
    stages = {type(call.module) for call in trace.once.values() if _is_stage(call)}
    return list(_flat(trace.steps, stages))


def _flat(steps: list[Call], stages: set[type]) -> Iterator[Call]:
    for step in steps:
        children = list(step.module.children())
        only_list = len(children) == 1 and isinstance(children[0], nn.ModuleList)
        if step.steps and (_is_sequential(step) or only_list or type(step.module) in stages):
            yield from _flat(step.steps, stages)
        else:
            yield step


def _is_sequential(call: Call) -> bool:
    return getattr(type(call.module), 'forward', None) is nn.Sequential.forward


def _is_stage(call: Call) -> bool:
    """Whether a module does nothing but run blocks: each gets what the one before it gave.

    Two or more are of a kind that has composite modules of its own; so a block that is a sequence of
    convolutions with norms is no stage.
    """
    steps = call.steps
    links = [*zip(steps, steps[1:]), (steps[-1], call)] if steps else []
    kinds = Counter(type(step.module) for step in steps if any(part.steps for part in step.steps))
    return max(kinds.values(), default=0) > 1 and all(
        any(given is output for given in taken for output in before.outputs.values())
        for before, after in links
        for taken in [list(call.outputs.values()) if after is call else after.inputs]
    )


def find_blocks(trace: Trace, size: tuple[int, ...]) -> list[Call]:
    """The blocks that lead to the last map: the most frequent kind of outermost composite module.

    Where these end before it, the most frequent kind of what follows continues. ``size`` is (H, W) of
    the last map.

    Raises:
        UnclearPlaceError: No kind is repeated, or none leads there.
    """
    rest = [step for step in flat(trace) if step.steps]
    blocks: list[Call] = []
    while rest and not (blocks and size in sizes(blocks[-1])):
        (kind, times), *_ = Counter(type(call.module) for call in rest).most_common(1)
        if times < 2:
            break
        blocks += [call for call in rest if type(call.module) is kind]
        rest = [call for call in rest if call.order > blocks[-1].order]
    if not blocks:
        raise UnclearPlaceError('it has no repeated blocks')
    if size not in sizes(blocks[-1]):
        raise UnclearPlaceError('its blocks do not lead to its last feature map')
    return blocks


def sizes(call: Call) -> set[tuple[int, ...]]:
    """(H, W) of each map that a module returns."""
    return {found.shape[1:] for found in call.maps.values()}


def last_stage(blocks: list[Call], size: tuple[int, ...]) -> list[Call]:
    """The blocks of the last stage: the last ones with maps of its size; none if that doesn't tell.

    Where stages share a size, it is those of one container.
    """
    start = len(blocks) - 1
    while start > 0 and size in sizes(blocks[start - 1]):
        start -= 1
    stage = blocks[start:]
    holders = [_holder(call) for call in stage]
    if len(set(holders)) > 1 and (start == 0 or 2 * len(stage) > len(blocks)):
        stage = [call for call in stage if _holder(call) == holders[-1]]
        return stage if len(stage) > 1 else []
    return stage if start > 0 else []


def _holder(call: Call) -> str:
    return call.name.rpartition('.')[0]


def inner_blocks(stage: Call) -> list[Call]:
    """The blocks in a stage that does more than to run them: those of a Sequential in it."""
    for step in stage.steps:
        blocks = step.steps if _is_sequential(step) else []
        if blocks and all(block.steps and block.maps for block in blocks):
            return blocks
    return []


def three_quarters(trace: Trace, blocks: list[Call], penult: str) -> Call:
    """The last block of the first three quarters, in a network without stages.

    It comes before the block that ``penult``, the module of the last place, is after.

    Raises:
        UnclearPlaceError: There is none before the last place.
    """
    holders = [_holder(call) for call in blocks]
    if len(set(holders)) == len(blocks) and all(
        name in trace.once and trace.once[name].maps for name in holders
    ):
        blocks = [trace.once[name] for name in holders]  # each is part of a Sequential
    names = [call.name for call in blocks]
    last = names.index(penult) if penult in names else len(blocks) - 1
    if last < 1:
        raise UnclearPlaceError('it has no block before the last place')
    return blocks[min(max(3 * len(blocks) // 4 - 1, 0), last - 1)]
