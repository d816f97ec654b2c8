"""The weights that a training begins with, or learns from, by the content of their files."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmkdlayer.engine.fingerprints import DIGITS, hash_json

#: Keys of a config that say which weights are loaded, or how new ones are drawn.
KEYS = ('init_cfg', 'pretrained', 'load_from', 'init_from', 'teacher_ckpt', 'checkpoint')


def hash_weights(config: Any) -> str:
    """Hash of all that a config says of weights; of a file its content counts, wherever it is."""
    return hash_json(list(_found(config, '')))


def _found(config: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(config, (list, tuple)):
        config = dict(enumerate(config))
    for key, value in config.items() if isinstance(config, Mapping) else ():
        name = f'{path}.{key}'
        # "checkpoint" names the hook that saves, too
        if value and key in KEYS and not (key == 'checkpoint' and isinstance(value, Mapping)):
            yield name, _content(value)
        else:
            yield from _found(value, name)


def _content(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: v if key == 'type' else _content(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_content(item) for item in value]
    return hash_file(value) if isinstance(value, str) else value


def hash_file(path: str) -> str:
    """Hash of a file's content; without the file its name (of a whole path the last part)."""
    if not os.path.isfile(path):
        return Path(path).name if os.path.isabs(path) else path
    state = os.stat(path)
    return _hash_content(os.path.abspath(path), state.st_size, state.st_mtime_ns)


@functools.cache
def _hash_content(path: str, *_: int) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()[:DIGITS]
