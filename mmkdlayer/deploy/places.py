"""Takes the places of one machine out of a config's test settings."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath
from typing import Any

#: Where mm-style configs expect data.
DATA = 'data'
#: Keys by which files are read from stores, with passwords perhaps.
STORES = ('backend_args', 'file_client_args')


def without_places(value: Any, root: str = '') -> Any:
    """A copy of a config's test settings that holds no absolute path, and no access to a store.

    A data set at /some/where/animals is at data/animals then, unless --data-root names another
    place; all other paths are relative to it. Names of classes that are in a file are read from it.
    ``root`` is where the data set is that a part belongs to.

    Raises:
        OSError: A file with the names of classes can't be read.
    """
    if isinstance(value, (list, tuple)):
        return type(value)(without_places(item, root) for item in value)
    if not isinstance(value, dict):
        return _relative(value, root) if is_absolute(value) else value
    kept = {key: item for key, item in value.items() if key not in STORES}
    if isinstance(kept.get('classes'), str):  # a file with a name in each line
        file = Path(os.path.expanduser(kept['classes']))
        kept['classes'] = file.read_text(encoding='utf-8').splitlines()
    prefix = kept.get('data_prefix')
    if is_absolute(prefix) and not kept.get('data_root'):
        kept.update(data_root=prefix, data_prefix='')
    root = kept.get('data_root') or root
    kept = {key: without_places(item, root) for key, item in kept.items()}
    if is_absolute(root) and 'data_root' in kept:
        kept['data_root'] = f'{DATA}/{_name(root)}'
    return kept


def is_absolute(path: Any) -> bool:
    """Whether a string names a place of one machine, of any system."""
    return isinstance(path, str) and bool(re.match(r'[/\\~]|[A-Za-z]:[/\\]', path))


def _name(path: str) -> str:
    """The last part of a path of any system."""
    return re.split(r'[/\\]', path.rstrip('/\\'))[-1] or 'images'


def _relative(path: str, root: str) -> str:
    """An absolute path as it is below the root of its data set, or its name alone."""
    if root and PurePath(root) in PurePath(path).parents:
        return os.path.relpath(path, root)
    return _name(path)
