"""Options that the commands share, and the config that they read."""

from __future__ import annotations

import argparse
import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmkdlayer.config_variables import read_with_variables
from mmkdlayer.errors import ConfigError, DataError, KDLayerError
from mmkdlayer.type_names import type_name

from .determinism import prepare_determinism
from .images import add_image_options
from .kinds import check_kinds
from .launch import TIMEOUT
from .numbers import positive_number
from .overrides import ConfigChanges, check_overrides, place_data

#: How the names of configs end that mmengine reads.
SUFFIXES = ('.py', '.json', '.yaml', '.yml')


def add_common_options(
    parser: argparse.ArgumentParser, launcher: bool = True, checkpoint: bool = False
) -> None:
    """Add the options that all commands on a config take.

    ``launcher`` adds those of several processes and of the check of images, ``checkpoint`` that of
    commands on a checkpoint that was trained with the config.
    """
    if launcher:
        add_image_options(parser)
    if checkpoint:
        parser.add_argument(
            '--config-as-given',
            action='store_true',
            help='go by this config even if the checkpoint was trained with another one, which is '
            'refused otherwise (the network, its KD layers, the preprocessing)',
        )
    parser.add_argument('--data-root', help='folder of the data, for all data loaders')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigChanges,
        metavar='KEY=VALUE',
        help='override the config, such as train_dataloader.batch_size=64',
    )
    parser.add_argument('--debug', action='store_true', help='show tracebacks of expected errors')
    if launcher:
        parser.add_argument(
            '--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none'
        )
        parser.add_argument(
            '--dist-timeout',
            type=positive_number,
            metavar='SECONDS',
            help='how long a process waits for another one before all end (default: the config, or '
            f'{TIMEOUT})',
        )


def load_config(args: argparse.Namespace) -> Config:
    """Read ``args.config`` and apply ``args.data_root`` and ``args.cfg_options``.

    Raises:
        ConfigError: There is no such file, an option has no effect on it, or the environment
            contradicts it.
        DataError: The config takes its classes from the data, which is not there.
    """
    if not Path(args.config).is_file():
        files = {file.name: file for file in Path(args.config).parent.glob('*.py')}
        near = get_close_matches(Path(args.config).name, files, n=1)
        hint = f' Did you mean {files[near[0]]}?' if near else ''
        raise ConfigError(f'Config {args.config}: there is no such file.{hint}')
    if Path(args.config).suffix not in SUFFIXES:
        raise ConfigError(
            f'Config {args.config}: expected a file that ends in {", ".join(SUFFIXES)}. The config '
            'comes before the checkpoint.'
        )
    root = os.path.expanduser(args.data_root) if args.data_root else None
    changes = args.cfg_options or {}
    given = dict(data_root=root) if root else {}
    with reading_errors(args.config):
        cfg, variables = read_with_variables(args.config, changes, **given)
    check_overrides(changes, variables, cfg)
    place_data(cfg, root, changes)
    # The config that a training has written names its classes, and reads no variable.
    if 'data_root' in variables and not os.path.isdir(os.path.expanduser(cfg.data_root)):
        raise DataError(
            f'Config {args.config} takes its classes from the folders of the data, but there is no '
            f'folder {cfg.data_root}. Give the place of the data with --data-root ROOT.'
        )
    # None in pure-Python configs, whose types are classes.
    init_default_scope(cfg.get('default_scope') or 'mmpretrain')
    check_kinds(cfg)
    prepare_determinism(cfg)
    return cfg


@contextmanager
def reading_errors(path: str) -> Iterator[None]:
    """Raise a ConfigError with file and line in the place of an error in the code of a config."""
    try:
        yield
    except (KDLayerError, OSError):
        raise
    except Exception as error:
        frames = [
            f for f in traceback.extract_tb(error.__traceback__) if f.filename.endswith('.py')
        ]
        own = [f for f in frames if 'site-packages' not in f.filename and f.name == '<module>']
        where = f'{own[-1].filename}, line {own[-1].lineno}' if own else path
        if frames and frames[-1].name == '__call__' and Path(frames[-1].filename).name == 'lazy.py':
            raise ConfigError(
                f'{where}: a pure-Python config names classes and can not call them. Write '
                'dict(type=CLASS, ...) in the place of CLASS(...).'
            ) from error
        text = ' '.join(str(error).split())
        raise ConfigError(
            f'{where}: the config can not be read ({type(error).__name__}: {text}).'
        ) from error


def choose_work_dir(cfg: Config, args: argparse.Namespace) -> None:
    """Set the work dir: the command line's, the config's, or ``work_dirs/<config>``."""
    stem = Path(args.config).stem
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or os.path.join('work_dirs', stem)


def find_hook(cfg: Config, name: str) -> Any:
    """The first of a config's ``custom_hooks`` of this type, its config or the hook; else None."""
    for hook in cfg.get('custom_hooks') or []:
        kind = hook.get('type') if isinstance(hook, Mapping) else type(hook)
        if type_name(kind) == type_name(name):
            return hook
    return None
