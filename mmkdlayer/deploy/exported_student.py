"""Loads an exported student."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmpretrain import get_model

from mmkdlayer.checkpoints import load_weights, read_student_weights
from mmkdlayer.errors import ConfigError


def load_student(
    directory: str | os.PathLike, device: str | torch.device | None = None
) -> BaseModel:
    """An exported student in eval mode, ready for mmpretrain's inferencers.

    The folder's ``student.py`` is run (configs are code), its ``student.pth`` holds weights only; they
    must be those that were exported.

    Args:
        directory: The folder that ``tools/export_student.py`` wrote.
        device: Where to put the model; None leaves it on the CPU.

    Raises:
        ConfigError: The folder is no exported student.
        CheckpointError: Its weights can't be read, are not the exported ones, or do not fit its config.
    """
    folder = Path(directory)
    for name in ('student.py', 'student.pth'):
        if not (folder / name).is_file():
            raise ConfigError(
                f'{folder} is no exported student: it has no {name}. Write one with "python '
                'tools/export_student.py CONFIG CHECKPOINT --out DIR".'
            )
    weights = folder / 'student.pth'
    cfg = Config.fromfile(folder / 'student.py')
    state, meta = read_student_weights(weights, sha256=cfg.get('weights_sha256'))
    model = get_model(cfg, pretrained=False)
    load_weights(model, state, f'Checkpoint {weights}')
    if meta.get('dataset_meta'):
        model._dataset_meta = meta['dataset_meta']
    if device is not None:
        model.to(device)
    return model.eval()
