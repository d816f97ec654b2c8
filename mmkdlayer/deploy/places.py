"""Takes the places of one machine out of the config of a data loader."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath
from typing import Any

#: Where mm-style configs expect data.
DATA = 'data'


def without_places(value: Any) -> Any:
    """A copy of a data loader's config that holds no absolute path, and no access to a store.

    A data set at /some/where/animals is at data/animals then, unless --data-root names another place;
    list files and prefixes are relative to it. Names of classes that are in a file are read from it.

    Args:
        value: The config, or a part of it.

    Raises:
        OSError: A file with the names of classes can't be read.
    """
    if isinstance(value, (list, tuple)):
        return type(value)(without_places(item) for item in value)
    if not isinstance(value, dict):
        return value
    kept = {
        key: without_places(item)
        for key, item in value.items()
        if key not in ('backend_args', 'file_client_args')
    }
    root = value.get('data_root')
    if isinstance(root, str) and is_absolute(root):
        kept['data_root'] = f'{DATA}/{_name(root)}'
    for key in ('ann_file', 'data_prefix'):
        item = kept.get(key)
        if isinstance(item, dict):
            kept[key] = {name: _relative(path, root) for name, path in item.items()}
        elif isinstance(item, str):
            kept[key] = _relative(item, root)
    classes = value.get('classes')
    if isinstance(classes, str):  # a file with a name in each line
        kept['classes'] = Path(os.path.expanduser(classes)).read_text(encoding='utf-8').splitlines()
    if is_absolute(value.get('data_prefix')) and not root:
        kept.update(data_root=f'{DATA}/{kept["data_prefix"]}', data_prefix='')
    return kept


def is_absolute(path: Any) -> bool:
    """Whether a string names a place of one machine, of any system."""
    return isinstance(path, str) and bool(re.match(r'[/\\~]|[A-Za-z]:[/\\]', path))


def _name(path: str) -> str:
    """The last part of a path of any system."""
    return re.split(r'[/\\]', path.rstrip('/\\'))[-1] or 'images'


def _relative(path: Any, root: Any) -> Any:
    """An absolute path as it is below the root of its data set, or its name alone."""
    if not is_absolute(path):
        return path
    if root and PurePath(root) in PurePath(path).parents:
        return os.path.relpath(path, root)
    return _name(path)
