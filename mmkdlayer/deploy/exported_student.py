"""Loads an exported student."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmpretrain import get_model
from torch import Tensor

from mmkdlayer.checkpoints import load_weights, read_student_weights
from mmkdlayer.errors import ConfigError

#: The files of an exported student that it needs.
EXPORTED = ('student.py', 'student.pth')


def load_student(
    directory: str | os.PathLike, device: str | torch.device | None = None
) -> BaseModel:
    """An exported student in eval mode, ready for mmpretrain's inferencers.

    The folder's ``student.py`` is run (configs are code), its ``student.pth`` holds weights only; they
    must be those that were exported.

    Args:
        directory: The folder that ``python -m mmkdlayer export_student`` wrote.
        device: Where to put the model; None leaves it on the CPU.

    Raises:
        ConfigError: The folder is no exported student.
        CheckpointError: Its weights can't be read, are not the exported ones, or do not fit its config.
    """
    config, weights = files = [Path(directory) / name for name in EXPORTED]
    for file in files:
        if not file.is_file():
            raise ConfigError(
                f'{directory} is no exported student: it has no {file.name}. Write one with "python -m '
                'mmkdlayer export_student CONFIG CHECKPOINT --out DIR".'
            )
    cfg = Config.fromfile(config)
    state, meta = read_student_weights(weights, sha256=cfg.get('weights_sha256'))
    model = build_student(cfg, state, meta, f'Checkpoint {weights}')
    return model if device is None else model.to(device)


def build_student(
    cfg: Config, state: Mapping[str, Tensor], meta: Mapping[str, Any], origin: str
) -> BaseModel:
    """A student in eval mode, of the config and the weights of one that stands alone.

    ``meta`` may name the classes; ``origin`` says where the weights come from.

    Raises:
        CheckpointError: The weights do not fit.
    """
    model = get_model(cfg, pretrained=False)
    load_weights(model, state, origin)
    if meta.get('dataset_meta'):
        model._dataset_meta = meta['dataset_meta']
    return model.eval()
