"""What the commands share: options, checks before anything is built, errors for people."""

from __future__ import annotations

import argparse
import inspect
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from mmkdlayer.errors import ConfigError, DataError, KDLayerError

#: Hooks that a training with KD layers needs; added where a config does not list them.
NEEDED_HOOKS = ('mmkdlayer.CheckWeightsHook', 'mmkdlayer.FitDecisionsHook')
# The registry puts this before the message of an error inside a class that it builds.
BUILD_PREFIX = re.compile(r'^(class `[^`]*` in \S+?: )+')


def load_config(args: argparse.Namespace) -> Config:
    """Read ``args.config`` and apply ``args.data_root`` and ``args.cfg_options``.

    Raises:
        ConfigError: There is no such file.
    """
    if not Path(args.config).is_file():
        raise ConfigError(f'Config {args.config}: there is no such file.')
    if args.data_root:
        os.environ['DATA_ROOT'] = args.data_root
    cfg = Config.fromfile(args.config)
    if args.data_root:
        for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            for _, dataset in _dataset_configs(cfg.get(loader), loader):
                dataset['data_root'] = args.data_root
    cfg.merge_from_dict(args.cfg_options or {})
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    return cfg


def set_work_dir(cfg: Config, path: str, work_dir: str | None) -> None:
    """Choose the work dir: the command line's, the config's, or ``work_dirs/<config>``."""
    cfg.work_dir = work_dir or cfg.get('work_dir') or os.path.join('work_dirs', Path(path).stem)


def add_needed_hooks(cfg: Config) -> None:
    """Add the hooks that fit decisions and check weights, where they are not listed."""
    hooks = list(cfg.get('custom_hooks') or [])
    listed = {str(hook.get('type')).rsplit('.', 1)[-1] for hook in hooks}
    hooks += [dict(type=name) for name in NEEDED_HOOKS if name.rsplit('.', 1)[-1] not in listed]
    cfg.custom_hooks = hooks


def check_writable(folder: str) -> None:
    """Raise a ConfigError where a folder can't be made or written."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f'Folder {folder} must be writable, but it is not ({error}). Choose another one, with '
            '--work-dir or --out.'
        ) from error


def _dataset_configs(value: Any, path: str) -> Iterator[tuple[str, dict]]:
    if isinstance(value, dict):
        if value.get('data_root') is not None and 'type' in value:
            yield path, value
        for key, item in value.items():
            yield from _dataset_configs(item, f'{path}.{key}')
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _dataset_configs(item, f'{path}.{index}')


def check_data_roots(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Raise a DataError where a data root is not there (and the data set can't download it).

    Args:
        cfg: The config.
        loaders: Names of the data loaders to check.
    """
    for loader in loaders:
        for path, dataset in _dataset_configs(cfg.get(loader), loader):
            root = str(dataset['data_root'])
            if '://' in root or os.path.isdir(root):
                continue
            dataset_class = DATASETS.get(dataset['type'])
            if dataset_class and 'download' in inspect.signature(dataset_class).parameters:
                continue
            raise DataError(
                f'Data root {root} (of {path}, a {dataset["type"]}): there is no such folder. Put the '
                f'data there, or give its place with --cfg-options {path}.data_root=FOLDER.'
            )


@contextmanager
def errors_for_people(debug: bool = False) -> Iterator[None]:
    """End the process with one paragraph instead of a traceback, where the user can mend it.

    Args:
        debug: Show the traceback too.
    """
    try:
        yield
    except (KDLayerError, OSError) as error:
        if debug:
            traceback.print_exc()
        text = BUILD_PREFIX.sub('', str(error))
        if isinstance(error, OSError) and not isinstance(error, KDLayerError):
            text = f'{type(error).__name__}: {text}'
        print(f'\nerror: {text}', file=sys.stderr, flush=True)
        sys.exit(2)


def add_common_options(
    parser: argparse.ArgumentParser, dict_action: type[argparse.Action], launcher: bool = True
) -> None:
    """Add the options that all commands take."""
    parser.add_argument('--data-root', help='folder of the data, for all data loaders')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=dict_action,
        metavar='KEY=VALUE',
        help='override the config, such as train_dataloader.batch_size=64',
    )
    if launcher:
        parser.add_argument(
            '--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none'
        )


def fitting_options(cfg: Config) -> dict[str, Any]:
    """The fitting options of the config's FitDecisionsHook."""
    for hook in cfg.get('custom_hooks') or []:
        if str(hook.get('type')).rsplit('.', 1)[-1] == 'FitDecisionsHook':
            return {k: v for k, v in hook.items() if k in ('seed', 'memory_budget', 'cache_dir')}
    return {}
