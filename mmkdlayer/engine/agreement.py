"""Whether all ranks were given the same: a rank that differs spoils the result, or hangs, silently."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from mmengine import dist

from mmkdlayer.errors import ConfigError

_NAMED = 5
_SHOWN = 120
_NOTHING = 'not there'


def compare_over_ranks(facts: Mapping[str, Any]) -> None:
    """Raise a ConfigError on all ranks that names what differs: item, ranks and their values."""
    if dist.get_world_size() == 1:
        return
    gathered = dist.all_gather_object((socket.gethostname(), dict(facts)))
    first = gathered[0][1]
    phrases = []
    for rank, (host, own) in enumerate(gathered):
        for name in {**first, **own}:
            theirs, ours = (str(given.get(name, _NOTHING)) for given in (first, own))
            if theirs != ours:
                theirs, ours = theirs[:_SHOWN], ours[:_SHOWN]
                phrases.append(f'{name} is {theirs} on rank 0 and {ours} on rank {rank} ({host})')
    if phrases:
        more = f' and {len(phrases) - _NAMED} more' if len(phrases) > _NAMED else ''
        raise ConfigError(
            f'The processes were not given the same: {"; ".join(phrases[:_NAMED])}{more}. Start all of '
            'them with the same command, on the same files.'
        )
