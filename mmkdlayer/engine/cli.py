"""What the commands share: options, checks before anything is built, errors for people."""

from __future__ import annotations

import argparse
import inspect
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS

from mmkdlayer.checkpoints import read_checkpoint
from mmkdlayer.engine.hooks import FitDecisionsHook
from mmkdlayer.engine.launch import TIMEOUT, explain_lost_process
from mmkdlayer.engine.signals import SIGNALS, WATCH
from mmkdlayer.errors import ConfigError, DataError, KDLayerError
from mmkdlayer.registry import HOOKS
from mmkdlayer.type_names import type_name

#: Hooks that every training needs, and those that one with KD layers needs besides.
TRAINING_HOOKS = ('mmkdlayer.PreemptionHook',)
NEEDED_HOOKS = (
    'mmkdlayer.CheckWeightsHook',
    'mmkdlayer.FitDecisionsHook',
    'mmkdlayer.ReleaseRecordsHook',
)
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
    elif cfg.get('needs_data_root') and not os.path.isdir(cfg.data_root):
        raise DataError(
            f'Config {args.config} takes its classes from the folders of the data, but there is no '
            f'folder {cfg.data_root}. Give the place of the data with --data-root ROOT.'
        )
    cfg.merge_from_dict(args.cfg_options or {})
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    return cfg


def set_work_dir(cfg: Config, path: str, work_dir: str | None) -> None:
    """Choose the work dir: the command line's, the config's, or ``work_dirs/<config>``."""
    cfg.work_dir = work_dir or cfg.get('work_dir') or os.path.join('work_dirs', Path(path).stem)


def add_needed_hooks(cfg: Config) -> None:
    """Add the hooks that end on signals, fit decisions and check weights, where they are not listed."""
    needed = TRAINING_HOOKS + (NEEDED_HOOKS if 'distiller' in cfg.get('model', {}) else ())
    hooks = list(cfg.get('custom_hooks') or [])
    listed = {type_name(hook.get('type')) for hook in hooks}
    hooks += [dict(type=name) for name in needed if type_name(name) not in listed]
    cfg.custom_hooks = hooks


def watch_signals(cfg: Config) -> None:
    """Begin to watch for the PreemptionHook's signals before anything that takes long is built."""
    for hook in cfg.get('custom_hooks') or []:
        if type_name(hook.get('type')) == 'PreemptionHook':
            WATCH.start(hook.get('signals', SIGNALS))


def use_resumable_loop(cfg: Config) -> None:
    """Let a training by epochs go on within an epoch, unless the config has a loop of its own."""
    if cfg.train_cfg.get('by_epoch') and 'type' not in cfg.train_cfg:
        cfg.train_cfg.pop('by_epoch')
        cfg.train_cfg.type = 'mmkdlayer.ResumableEpochLoop'


def check_compile(cfg: Config) -> None:
    """Raise a ConfigError where ``compile`` asks for torch.compile on a CPU without a C++ compiler."""
    options = cfg.get('compile')
    backend = options.get('backend', 'inductor') if isinstance(options, dict) else 'inductor'
    compilers = [os.environ.get('CXX') or 'g++', 'clang++']
    if not options or backend != 'inductor' or get_device() != 'cpu':
        return
    if not any(shutil.which(compiler) for compiler in compilers):
        raise ConfigError(
            f'compile={options} expects a C++ compiler on a machine without GPU, but there is none of '
            f'{", ".join(compilers)}. Install g++, or leave compile out.'
        )


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

    Also where a data set of class folders has others than its classes.

    Args:
        cfg: The config.
        loaders: Names of the data loaders to check.
    """
    for loader in loaders:
        for path, dataset in _dataset_configs(cfg.get(loader), loader):
            root = str(dataset['data_root'])
            prefix = dataset.get('data_prefix')
            folder = os.path.join(root, prefix) if isinstance(prefix, str) else root
            if '://' in root:
                continue
            if os.path.isdir(folder):
                _check_class_folders(path, dataset, folder)
                continue
            kind = dataset['type']
            dataset_class = kind if inspect.isclass(kind) else DATASETS.get(kind)
            if dataset_class and 'download' in inspect.signature(dataset_class).parameters:
                continue
            raise DataError(
                f'{path} ({type_name(kind)}): there is no folder {folder}. Put the data there, or give '
                'the place of all data with --data-root ROOT (of one data set: --cfg-options '
                f'{path}.data_root=ROOT).'
            )


def _check_class_folders(path: str, dataset: Any, folder: str) -> None:
    """A CustomDataset without a list of files has a folder for each of its classes."""
    classes = dataset.get('classes')
    listed = dataset.get('ann_file') or not dataset.get('with_label', True)
    if classes is None or listed or type_name(dataset['type']) != 'CustomDataset':
        return
    found = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    found = [name for name in found if not name.startswith('.')]
    if found and len(found) == len(classes):
        return
    missing, others = sorted(set(classes) - set(found)), sorted(set(found) - set(classes))
    raise DataError(
        f'{path}: expected a folder for each of the {len(classes)} classes in {folder}, but found '
        f'{len(found)} (missing: {", ".join(missing[:5]) or "none"}; unknown: '
        f'{", ".join(others[:5]) or "none"}). Put the images of each class into a folder of its own, '
        'in the same way for training and testing.'
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
        if isinstance(error, URLError):
            text = (
                f'a download failed ({text}). The config takes its teacher from the model zoo, or a '
                'data set that downloads itself: fetch it on a machine with a network, then add '
                '--cfg-options model.teacher_ckpt=FILE, or --data-root ROOT.'
            )
        elif isinstance(error, OSError) and not isinstance(error, KDLayerError):
            text = f'{type(error).__name__}: {text}'
        _end_with(text)
    except RuntimeError as error:
        lost = explain_lost_process(error)
        if lost is None:
            raise
        if debug:
            traceback.print_exc()
        _end_with(lost)


def _end_with(text: str) -> None:
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
        parser.add_argument(
            '--dist-timeout',
            type=float,
            metavar='SECONDS',
            help='how long a process waits for another one before all end (default: the config, or '
            f'{TIMEOUT})',
        )


def check_checkpoints(cfg: Config) -> None:
    """Read the files that training starts from once, so that a damaged one is a clear error.

    Raises:
        ConfigError: A file is not there or can't be read.
    """
    load_from = cfg.get('load_from')
    latest = Path(cfg.work_dir, 'last_checkpoint')
    if cfg.get('resume') and load_from is None and latest.is_file():
        load_from = latest.read_text().strip()
    for path in (cfg.get('model', {}).get('teacher_ckpt'), load_from):
        if path and '://' not in str(path):
            read_checkpoint(path)


def fitting_hook(cfg: Config) -> FitDecisionsHook:
    """The FitDecisionsHook that the config lists, or one with the defaults."""
    for hook in cfg.get('custom_hooks') or []:
        if type_name(hook.get('type')) == 'FitDecisionsHook':
            return HOOKS.build(hook)
    return FitDecisionsHook()
