"""Loads an exported student."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmpretrain import get_model

from mmkdlayer.checkpoints import hash_file, load_weights, read_student_weights
from mmkdlayer.errors import CheckpointError, ConfigError


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
    check_weights_file(cfg, weights)
    state, meta = read_student_weights(weights)
    model = get_model(cfg, pretrained=False)
    load_weights(model, state, f'Checkpoint {weights}')
    if meta.get('dataset_meta'):
        model._dataset_meta = meta['dataset_meta']
    if device is not None:
        model.to(device)
    return model.eval()


def check_weights_file(cfg: Config, weights: str | os.PathLike) -> None:
    """Refuse weights that are not those of the exported config, which knows their SHA-256.

    That finds damage and mixed-up files, not malice: whoever can write the folder can change both.

    Args:
        cfg: The config of an exported student; others have no ``weights_sha256``, and pass.
        weights: The file.

    Raises:
        CheckpointError: It is another file.
    """
    expected = cfg.get('weights_sha256')
    if expected is None:
        return
    found = hash_file(weights)
    if found != expected:
        raise CheckpointError(
            f'Checkpoint {weights}: expected the weights that were exported with this student.py, '
            f'with the SHA-256 {expected}, but this file has {found}; it is truncated, damaged, changed '
            'or belongs to another export. Export the student again; if the weights were changed on '
            'purpose, take weights_sha256 out of student.py.'
        )
