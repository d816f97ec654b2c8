"""Automatic mixed precision: the option ``--amp``, and what it changes in a config."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Union

import torch
from mmengine.config import Config
from mmengine.device import get_device

from mmkdlayer.errors import ConfigError
from mmkdlayer.type_names import type_name

from .options import SUFFIXES

#: What ``--amp`` is followed by.
DTYPES = ('float16', 'bfloat16')
#: Value of ``--amp`` alone: the type that the device and the config choose.
CHOSEN = 'chosen'
#: Optimiser wrappers that mixed precision can take the place of.
REPLACED = ('OptimWrapper', 'AmpOptimWrapper', 'BFloat16OptimWrapper')


def add_amp_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--amp [float16|bfloat16]``; its value is one of them, or True, or None without it."""
    parser.add_argument(
        '--amp',
        nargs='?',
        const=True,
        type=_dtype,
        metavar='|'.join(DTYPES),
        help='automatic mixed precision; without a type float16 on GPUs, bfloat16 on CPUs',
    )


def separate_amp(arguments: Sequence[str]) -> list[str]:
    """Command line in which ``--amp CONFIG`` does not take the config for the type of numbers."""
    followed = zip_longest(arguments, arguments[1:], fillvalue='')
    alone = f'--amp={CHOSEN}'
    return [
        alone if item == '--amp' and Path(after).suffix in SUFFIXES else item
        for item, after in followed
    ]


def _dtype(text: str) -> Union[str, bool]:
    if text not in (*DTYPES, CHOSEN):
        raise argparse.ArgumentTypeError(f'expected {" or ".join(DTYPES)}, but got {text}')
    return text if text != CHOSEN else True


def use_amp_in_training(cfg: Config, dtype: Union[str, bool]) -> None:
    """Choose the optimiser wrapper of a training, in place.

    Args:
        cfg: The training config.
        dtype: ``'float16'``, ``'bfloat16'`` or True: on GPUs what the config says, else float16.

    Raises:
        ConfigError: The config has another kind of optimiser wrapper, or the device can't do it.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    kind = type_name(wrapper.get('type', 'OptimWrapper'))
    parts = [key for key, part in wrapper.items() if isinstance(part, dict) and 'optimizer' in part]
    if parts or kind not in REPLACED:
        raise ConfigError(
            '--amp expects optim_wrapper.type OptimWrapper, but the config has '
            f'{f"one each for {parts}; set their types" if parts else kind}.'
        )
    _check_device(dtype)
    if dtype == 'bfloat16' or get_device() == 'cpu':
        cfg.optim_wrapper.type = 'mmkdlayer.BFloat16OptimWrapper'
        for option in ('loss_scale', 'dtype', 'use_fsdp'):
            cfg.optim_wrapper.pop(option, None)
        return
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if isinstance(dtype, str):
        cfg.optim_wrapper.dtype = dtype


def use_amp_in_test(cfg: Config, dtype: Union[str, bool]) -> None:
    """Let mmengine's loop test under autocast, in place; ``dtype`` is as for training.

    Raises:
        ConfigError: The device can't do it.
    """
    _check_device(dtype)
    cfg.test_cfg = dict(cfg.get('test_cfg') or {}, fp16=True)
    if isinstance(dtype, str) and get_device() == 'cuda':
        torch.set_autocast_gpu_dtype(getattr(torch, dtype))  # the loop names no type


def _check_device(dtype: Union[str, bool]) -> None:
    device = get_device()
    if dtype == 'float16' and device == 'cpu':
        raise ConfigError(
            '--amp float16 expects a GPU, but there is none: half precision with loss scaling is not '
            'for CPUs. Use --amp bfloat16.'
        )
    if dtype == 'bfloat16' and device == 'cuda' and not _has_bfloat16():
        raise ConfigError(
            f'--amp bfloat16 expects a GPU that has it (from compute capability 8.0 on), but '
            f'{torch.cuda.get_device_name()} has not. Use --amp float16.'
        )


def _has_bfloat16() -> bool:
    """Whether the GPU computes in bfloat16 itself; newer torch counts emulation too, which is slow."""
    check = torch.cuda.is_bf16_supported
    if 'including_emulation' in inspect.signature(check).parameters:
        return check(including_emulation=False)
    return check()
