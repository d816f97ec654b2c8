"""What the command line changes in a config, and what it can not change."""

from __future__ import annotations

import argparse
import inspect
import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from mmkdlayer.errors import ConfigError
from mmkdlayer.pipelines import find_datasets

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
#: What is read of a config besides the arguments of mmengine's Runner.
READ_BESIDES = {
    *('activation_checkpointing', 'compile', 'custom_imports', 'efficient_conv_bn_eval'),
    *('find_unused_parameters', 'model_wrapper_cfg', 'runner_type', 'strategy', 'sync_bn'),
    *('init_from', 'tta_model', 'tta_pipeline'),
}
#: What is read in another place, and where.
TOO_LATE = {
    'custom_imports': 'the modules are imported as the file is read. Set it in a config file',
    'launcher': 'the option --launcher says it',
}


class ConfigChanges(DictAction):
    """Reads KEY=VALUE as mmengine does, but keeps the spaces of single values, and names of files."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        """Add them to those of the options before.

        Raises:
            argparse.ArgumentError: There is no KEY=VALUE, or brackets that are not closed.
        """
        changes = dict(getattr(namespace, self.dest) or {})
        for text in values:
            key, equals, value = text.partition('=')
            if not (key and equals) or key != key.strip():
                raise argparse.ArgumentError(
                    self, f'expected KEY=VALUE, with no space around "=", but found "{text}"'
                )
            try:
                changes[key] = self._read(value)
            except AssertionError as error:  # as mmengine says it
                raise argparse.ArgumentError(self, f'{text}: {error}') from error
        setattr(namespace, self.dest, changes)

    def _read(self, value: str) -> Any:
        if os.path.exists(value) or not any(mark in value for mark in ',[('):
            return self._parse_int_float_bool(value.strip('\'"'))
        return self._parse_iterable(value)


def read_keys() -> set[str]:
    """The keys at the top level of a config that mmengine's Runner reads."""
    return {*inspect.signature(Runner.__init__).parameters, *READ_BESIDES} - {'self', 'cfg'}


def check_overrides(changes: Mapping[str, Any], variables: set[str], cfg: Config) -> None:
    """Raise a ConfigError where ``--cfg-options`` sets something that nothing reads.

    Such as a pipeline's variable: mmengine has copied its value to where it is used by then.
    ``variables`` are those for which the config is evaluated again.
    """
    read = {*read_keys(), *variables}
    for name in changes:
        key = name.split('.')[0]
        if key in TOO_LATE:
            raise ConfigError(f'--cfg-options {name} would change nothing: {TOO_LATE[key]}.')
        if key in read:
            continue
        inner = sorted(path for path in _dotted(cfg.to_dict()) if path.endswith(f'.{name}'))
        near = inner[:3] or get_close_matches(key, read, n=3)
        raise ConfigError(
            f'--cfg-options {name}: nothing reads {key} after the config is made, so this would change '
            f'nothing. Near matches: {", ".join(near) or "none"}. Set the entry that uses it, such as '
            'train_dataloader.batch_size; if code of yours reads it, set it in a config file.'
        )


def _dotted(value: Any, path: str = '') -> Iterator[str]:
    """The dotted name of each entry of a config."""
    for key, item in value.items() if isinstance(value, Mapping) else ():
        name = f'{path}.{key}' if path else key
        yield name
        yield from _dotted(item, name)


def place_data(cfg: Config, root: str | None, changes: Mapping[str, Any]) -> None:
    """Write out ``~`` in data roots, as mmpretrain does in the other paths, and move the data.

    Args:
        cfg: The config.
        root: New data root of every data set of the loaders, other than those that ``changes`` name;
            None to leave them.
        changes: Those of ``--cfg-options``.

    Raises:
        ConfigError: They have different roots now: with one root, two data sets would be the same.
    """
    moved = {}
    for loader in LOADERS:
        for path, dataset in find_datasets(cfg.get(loader), loader):
            if isinstance(dataset.get('data_root'), str):
                dataset['data_root'] = os.path.expanduser(dataset['data_root'])
            if root and f'{path}.data_root' not in changes:
                moved[f'{path}.data_root'] = dataset
    roots = {name: str(dataset.get('data_root') or '') for name, dataset in moved.items()}
    if len(set(roots.values())) > 1:
        listed = ', '.join(f'{name}={value}' for name, value in roots.items())
        raise ConfigError(
            f'--data-root {root}: expected one data root for all data sets, but the config has '
            f'{len(set(roots.values()))}: {listed}. Give each with --cfg-options, as listed.'
        )
    for dataset in moved.values():
        dataset['data_root'] = root
