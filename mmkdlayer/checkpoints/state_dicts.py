"""Comparing a network's weights with those of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mmkdlayer.errors import CheckpointError


def describe_misfits(
    expected: Mapping[str, Tensor], found: Mapping[str, Any], optional: str | tuple[()] = ()
) -> list[str]:
    """How a state dict differs from that of a network, in phrases that name up to three examples each.

    Args:
        expected: Names and tensors of the network; the shapes count.
        found: Those of the file.
        optional: Ending of names that may be missing.

    Returns:
        A phrase for what is missing, unknown, and of another shape; none where it fits.
    """
    misfits = {
        'missing': [k for k in expected if k not in found and not k.endswith(optional)],
        'unknown': [k for k in found if k not in expected],
        'of another shape': [
            f'{k} is {tuple(found[k].shape)} there and {tuple(tensor.shape)} in the model'
            for k, tensor in expected.items()
            if k in found and found[k].shape != tensor.shape
        ],
    }
    phrases = []
    for what, names in misfits.items():
        if names:
            more = f' and {len(names) - 3} more' if len(names) > 3 else ''
            phrases.append(f'{len(names)} {what} ({", ".join(names[:3])}{more})')
    return phrases


def load_weights(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load a state dict that must fit exactly.

    Args:
        model: Where to.
        state: Names and tensors.
        origin: Where they come from, for the message.

    Raises:
        CheckpointError: Entries are missing or unknown, or shapes differ; examples are named.
    """
    misfits = describe_misfits(model.state_dict(), state)
    if misfits:
        raise CheckpointError(
            f'{origin} does not fit the model {type(model).__name__}: of its entries, '
            f'{"; ".join(misfits)}. It belongs to another architecture, or the config is not the one '
            'it was trained with.'
        )
    model.load_state_dict(state)
