"""Finds the weights in what a checkpoint holds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from torch import Tensor

from mmkdlayer.errors import CheckpointError

from .reading import read_checkpoint
from .state_dicts import check_values

#: Before the student's entries in a training checkpoint, and before every entry of an average.
STUDENT_PREFIX, AVERAGE_PREFIX = 'architecture.', 'module.'
WRAPPERS = re.compile(r'^(module\.|_orig_mod\.)+')
#: What torch's and mmengine's averages have beside the model.
COUNTERS = ('n_averaged', 'steps')
#: Levels of meta data, and values of one.
DEEPEST, MOST_META = 50, 10**6


def read_state_dict(
    path: str | os.PathLike, entries: Sequence[str] = ('state_dict',), sha256: str | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a network's tensors from a checkpoint, in which they are bare or one of several entries.

    Args:
        path: A file, or a URL that mmengine can read.
        entries: Names of the entry that holds them; the first that is there counts.
        sha256: What the SHA-256 of the file must be; None for any.

    Returns:
        Names and tensors, without the prefix of a wrapper; and the whole checkpoint (empty where it
        is a bare state dict), whose ``meta`` is a dict if it has one.

    Raises:
        CheckpointError: The file can't be read, holds no state dict, or one that is none of numbers.
        URLError: It can't be downloaded.
    """
    content = read_checkpoint(path, sha256=sha256)
    check_content(content, f'Checkpoint {path}', entries)
    found = [content[name] for name in entries if isinstance(content.get(name), Mapping)]
    state = found[0] if found else content
    others = {name: value for name, value in state.items() if not isinstance(value, Tensor)}
    if not state or others:
        what = ''.join(f'; {n!r} is a {type(v).__name__}' for n, v in list(others.items())[:1])
        raise CheckpointError(
            f'Checkpoint {path}: expected a state dict (names and tensors), bare or under '
            f'{" or ".join(map(repr, entries))}, but found a {type(content).__name__} with the entries '
            f"{list(content)[:8]}{what}. Save the weights as torch.save({{'state_dict': "
            "model.state_dict()}, path); convert a published teacher's by "
            'python -m mmkdlayer convert_teacher.'
        )
    return _without_wrapper(state), dict(content) if found else {}


def check_content(content: Any, origin: str, entries: Sequence[str] = ('state_dict',)) -> None:
    """Check that what a file holds can be a checkpoint; ``origin`` says where it was read.

    Raises:
        CheckpointError: It is no dict of names, its weights (``entries``) or ``meta`` are of other
            types, or its weights are no numbers.
    """
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f'{origin}: expected a state dict (names and tensors), alone or as an entry of a dict, but '
            f'found a {type(content).__name__}.'
        )
    parts = {name: content[name] for name in entries if name in content}
    meta = content.get('meta')
    for name, part in {**parts, 'meta': {} if meta is None else meta}.items():
        if not isinstance(part, Mapping):
            raise CheckpointError(
                f'{origin}: expected a dict as the entry {name!r}, but found a {type(part).__name__}.'
            )
    _check_size(meta, origin)
    for what, part in {'the checkpoint': content, **parts}.items():
        other = next((key for key in part if not isinstance(key, str)), None)
        if other is not None:
            raise CheckpointError(
                f'{origin}: expected names as the keys of {what}, but found a {type(other).__name__}. '
                'Save the weights as torch.save(model.state_dict(), path).'
            )
    for state in parts.values() or [content]:
        tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        check_values(tensors, origin)


def _check_size(meta: Any, origin: str) -> None:
    """Refuse meta data that can't be printed: a list may hold itself, or one list a thousand times."""
    level = [meta]
    for _ in range(DEEPEST):
        level = list(islice(chain.from_iterable(map(_values_of, level)), MOST_META))
        if not level:
            return
        if len(level) == MOST_META:
            break
    raise CheckpointError(
        f"{origin}: expected meta data of a training, but its 'meta' holds {MOST_META} values, or is "
        f'nested {DEEPEST} deep. Save the weights alone: torch.save('
        "{'state_dict': checkpoint['state_dict']}, path)."
    )


def _values_of(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, (list, tuple, set)) else ()


def read_student_weights(
    path: str | os.PathLike, ema: bool | None = None, sha256: str | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The student's state dict and the meta data of a training checkpoint or an exported student.

    mmengine's EMAHook saves the averaged weights, those that it validates, as ``state_dict``, and the
    weights of the last step as ``ema_state_dict``.

    Args:
        path: A file, or a URL that mmengine can read.
        ema: True for averaged weights, False for those of the last step, None for what the checkpoint
            has as its weights: averaged ones where it has both.
        sha256: What the SHA-256 of the file must be: finds damage and mixed-up files, not malice.

    Returns:
        The state dict, without prefix, and ``meta``; there, ``averaged`` says which weights these
        are, where the checkpoint has both, and ``dataset_meta`` is a dict, whose ``classes`` are a
        list, if any.

    Raises:
        CheckpointError: It can't be read, is another file, or holds no state dict, or not the averaged
            weights that are wanted.
    """
    state, checkpoint = read_state_dict(path, ('state_dict',), sha256)
    meta = dict(checkpoint.get('meta') or {})
    known = meta.get('dataset_meta')
    if not (isinstance(known, Mapping) and isinstance(known.get('classes') or (), (list, tuple))):
        meta.pop('dataset_meta', None)
    last_step = checkpoint.get('ema_state_dict')
    if isinstance(last_step, dict):
        meta['averaged'] = ema is not False
        if ema is False:
            check_values(last_step, f'Checkpoint {path}')
            state = _without_wrapper(_entries_below(AVERAGE_PREFIX, last_step))
    elif ema:
        raise CheckpointError(
            f'Checkpoint {path}: expected averaged weights, but it has none (no ema_state_dict). Train '
            "with custom_hooks=[dict(type='EMAHook')], or ask for no averaged weights."
        )
    # A data-free training under a launcher wraps the student itself.
    return _without_wrapper(_entries_below(STUDENT_PREFIX, state) or state), meta


def _without_wrapper(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without what DataParallel, torch.compile or an average put before every entry."""
    names = [name for name in state if name not in COUNTERS]
    if not all(map(WRAPPERS.match, names)):
        return dict(state)
    return {WRAPPERS.sub('', name): state[name] for name in names}


def _entries_below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
