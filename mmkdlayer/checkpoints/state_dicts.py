"""Comparing a network's weights with those of a file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmkdlayer.errors import CheckpointError

#: Elements of a tensor up to which it may take less memory than they would.
MOST_REPEATED = 1 << 24


def describe_misfits(
    expected: Mapping[str, Tensor], found: Mapping[str, Any], optional: str | tuple[()] = ()
) -> list[str]:
    """How a state dict differs from that of a network, in phrases that name up to three examples each.

    What is missing (but for names with the ending ``optional``), unknown, and of another shape;
    none where it fits.
    """
    missing = [key for key in expected if key not in found and not key.endswith(optional)]
    other_shapes = _other_shapes(expected, found)
    shapes = [
        f'{key} is {tuple(found[key].shape)} there and {tuple(expected[key].shape)} in the model'
        for key in other_shapes
    ]
    unknown = [key for key in found if key not in expected]
    phrases = {'missing': missing, 'unknown': unknown, 'of another shape': shapes}
    return [_phrase(what, names) for what, names in phrases.items() if names]


def describe_lacks(expected: Mapping[str, Tensor], found: Mapping[str, Any]) -> list[str]:
    """As :func:`describe_misfits`, but for unknown names and missing counters of batch norms."""
    known = {key: found[key] for key in expected if key in found}
    return describe_misfits(expected, known, optional='num_batches_tracked')


def _other_shapes(expected: Mapping[str, Tensor], found: Mapping[str, Any]) -> list[str]:
    return [key for key in expected if key in found and found[key].shape != expected[key].shape]


def _phrase(what: str, names: Sequence[str]) -> str:
    """How many, and three examples."""
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    return f'{len(names)} {what} ({", ".join(names[:3])}{more})'


def check_values(state: Mapping[str, Any], origin: str) -> None:
    """Raise a CheckpointError where a network can't compute with what a state dict holds.

    That is an entry that is no tensor, complex or without values, or holds NaN or infinity; negative
    infinity is allowed, as in the masks of attention. ``origin`` says where it was read.
    """
    problems = {name: _problem(value) for name, value in state.items()}
    wrong = [f'{name} {problem}' for name, problem in problems.items() if problem]
    if wrong:
        raise CheckpointError(
            f'{origin}: expected weights that a network can compute with, but found, among '
            f'its {len(state)} entries, {_phrase("unusable", wrong)}. Either the file is damaged, '
            'or the training that wrote it had diverged: use an earlier checkpoint.'
        )


def _problem(value: Any) -> str | None:
    """What is wrong with an entry of a state dict."""
    if not isinstance(value, Tensor):
        return f'is a {type(value).__name__}'
    if value.is_meta:
        return 'is a tensor without values (on the device "meta")'
    if value.is_complex():
        return f'is complex ({value.dtype})'
    if not value.is_floating_point() or value.layout != torch.strided or not value.numel():
        return None
    if value.numel() > MOST_REPEATED and value.untyped_storage().nbytes() < value.numel():
        return f'is one number repeated {value.numel()} times'
    # Of float8 torch has no minimum and maximum.
    value = value.detach()
    least, most = (value.float() if value.element_size() == 1 else value).aminmax()
    if math.isnan(least):
        return 'holds NaN'
    return 'holds infinity' if math.isinf(most) else None


def load_weights(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load a state dict that must fit exactly, or raise a CheckpointError that names examples.

    ``origin`` says where it was read.
    """
    misfits = describe_misfits(model.state_dict(), state)
    if misfits:
        raise CheckpointError(
            f'{origin} does not fit the model {type(model).__name__}: of its entries, '
            f'{"; ".join(misfits)}. It belongs to another architecture, or the config is not the one '
            'it was trained with.'
        )
    model.load_state_dict(state)


def load_what_fits(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> list[str]:
    """Load the entries of a state dict that a network has too, in the same shape.

    Returns:
        Phrases about what was loaded, what stays as it is and why, and what is not used.

    Raises:
        CheckpointError: Nothing fits; ``origin`` says where it was read.
    """
    own = model.state_dict()
    other_shapes = _other_shapes(own, state)
    fitting = {key: state[key] for key in own if key in state and key not in other_shapes}
    if not any(value.is_floating_point() for value in fitting.values()):
        raise CheckpointError(
            f'{origin}: expected weights of {type(model).__name__} or of a part of it, but nothing '
            f'fits: {"; ".join(describe_misfits(own, state))}. It belongs to another architecture.'
        )
    model.load_state_dict(fitting, strict=False)
    stay = describe_lacks(own, state)
    unused = [key for key in state if key not in own]
    phrases = [f'{len(fitting)} of {len(own)} entries are loaded']
    phrases += [f'the rest stays as it is initialised, {", ".join(stay)}'] if stay else []
    phrases += [f'of the file, {_phrase("not used", unused)}'] if unused else []
    return phrases
