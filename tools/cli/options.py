"""Options that the commands share, and the config that they read."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope

from mmkdlayer.config_variables import read_with_variables
from mmkdlayer.engine.launch import TIMEOUT
from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.type_names import type_name

from .overrides import check_overrides, move_data


def add_common_options(parser: argparse.ArgumentParser, launcher: bool = True) -> None:
    """Add the options that all commands on a config take."""
    parser.add_argument('--data-root', help='folder of the data, for all data loaders')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
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
            type=float,
            metavar='SECONDS',
            help='how long a process waits for another one before all end (default: the config, or '
            f'{TIMEOUT})',
        )


def add_config_as_given(parser: argparse.ArgumentParser) -> None:
    """Add the option of commands that take a config and a checkpoint that was trained with it."""
    parser.add_argument(
        '--config-as-given',
        action='store_true',
        help='go by this config even if the checkpoint was trained with another one, which is refused '
        'otherwise (the network, its KD layers, the preprocessing)',
    )


def load_config(args: argparse.Namespace) -> Config:
    """Read ``args.config`` and apply ``args.data_root`` and ``args.cfg_options``.

    Raises:
        ConfigError: There is no such file, or an option has no effect on it.
        DataError: The config takes its classes from the data, which is not there.
    """
    if not Path(args.config).is_file():
        raise ConfigError(f'Config {args.config}: there is no such file.')
    root = os.path.expanduser(args.data_root) if args.data_root else None
    changes = args.cfg_options or {}
    given = dict(data_root=root) if root else {}
    cfg, variables = read_with_variables(args.config, changes, **given)
    check_overrides(changes, variables)
    if root:
        move_data(cfg, root, changes)
    elif cfg.get('needs_data_root') and not os.path.isdir(cfg.data_root):
        raise DataError(
            f'Config {args.config} takes its classes from the folders of the data, but there is no '
            f'folder {cfg.data_root}. Give the place of the data with --data-root ROOT.'
        )
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    return cfg


def choose_work_dir(cfg: Config, args: argparse.Namespace) -> None:
    """Set the work dir: the command line's, the config's, or ``work_dirs/<config>``."""
    stem = Path(args.config).stem
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or os.path.join('work_dirs', stem)


def find_hook(cfg: Config, name: str) -> dict | None:
    """The first of a config's ``custom_hooks`` of this type, with or without its scope; else None."""
    for hook in cfg.get('custom_hooks') or []:
        if type_name(hook.get('type')) == type_name(name):
            return hook
    return None
