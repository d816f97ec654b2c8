"""Writes the student as a folder of its own, and checks it against the training model."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.version import __version__

from .checkpoints import STUDENT_PREFIX, load_weights, read_student_weights
from .loading import load_student
from .student_config import find_input_size, student_config

TOLERANCE = 1e-5


def training_student(cfg: Config, state: dict[str, Tensor], origin: str) -> nn.Module:
    """The student as the training model holds it, with its weights, in eval mode."""
    model = MODELS.build(cfg.model)
    student = model.student if STUDENT_PREFIX.rstrip('.') in cfg.model else model
    load_weights(student, state, origin)
    return student.eval()


@torch.no_grad()
def largest_difference(first: nn.Module, second: nn.Module, size: tuple[int, int]) -> float:
    """The largest difference of the two models' logits on seeded random images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, *size, generator=generator)
    return float((first(images, mode='tensor') - second(images, mode='tensor')).abs().max())


def export_student(
    cfg: Config, checkpoint: str | os.PathLike, out: str | os.PathLike
) -> dict[str, Any]:
    """Write ``student.py`` and ``student.pth``: a student that needs no teacher and no mmrazor.

    Both files appear only after the exported student gave the logits of the training student.

    Args:
        cfg: The training config.
        checkpoint: A checkpoint of that training.
        out: The folder to write.

    Returns:
        ``config`` and ``weights`` (paths), ``difference`` (largest difference of logits).

    Raises:
        ConfigError: The checkpoint does not fit, or the logits differ by more than 1e-5.
        OSError: The folder can't be written.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    state, meta = read_student_weights(checkpoint)
    trained = training_student(untaught(cfg), state, f'Checkpoint {checkpoint}')
    student_cfg = student_config(cfg)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    kept_meta = dict(
        mmkdlayer_version=__version__,
        dataset_meta=plain_meta(meta.get('dataset_meta')),
        epoch=meta.get('epoch'),
        iter=meta.get('iter'),
    )
    with tempfile.TemporaryDirectory(dir=folder, prefix='.export-') as trial:
        config_file, weights_file = Path(trial) / 'student.py', Path(trial) / 'student.pth'
        config_file.write_text(student_cfg.pretty_text)
        torch.save(dict(state_dict=state, meta=kept_meta), weights_file)
        difference = largest_difference(trained, load_student(trial), find_input_size(student_cfg))
        if not difference <= TOLERANCE:
            raise ConfigError(
                f'The exported student gives other logits than the training student: expected a '
                f'difference of at most {TOLERANCE}, but found {difference:.3g}. Nothing was written.'
            )
        for file in (config_file, weights_file):
            os.replace(file, folder / file.name)
    return dict(config=folder / 'student.py', weights=folder / 'student.pth', difference=difference)


def untaught(cfg: Config) -> Config:
    """The config without what only training needs: the teacher's checkpoint, decision files."""
    cfg = Config(cfg.to_dict())
    if 'teacher_ckpt' in cfg.model:
        cfg.model.teacher_ckpt = None
    for loss in cfg.model.get('distiller', {}).get('distill_losses', {}).values():
        if isinstance(loss.get('decision'), dict):
            loss.decision.pop('file', None)
    return cfg


def plain_meta(meta: Any) -> Any:
    """Meta data as plain Python values, which load with weights_only=True."""
    if isinstance(meta, dict):
        return {str(key): plain_meta(value) for key, value in meta.items()}
    if isinstance(meta, (list, tuple, set)):
        return [plain_meta(value) for value in meta]
    return meta if isinstance(meta, (str, int, float, bool, type(None))) else str(meta)
