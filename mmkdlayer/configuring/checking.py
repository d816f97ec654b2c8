"""Builds a written config and runs it once, before the user does."""

from __future__ import annotations

import os
from typing import Any

import torch
from mmengine.config import Config
from mmpretrain.structures import DataSample

from mmkdlayer.engine.hooks.check_weights_hook import check_teacher_checkpoint
from mmkdlayer.engine.supervision import check_shapes, find_supervised_layers
from mmkdlayer.errors import ConfigError, KDLayerError
from mmkdlayer.models.evaluating import evaluating
from mmkdlayer.registry import MODELS


def check_config(path: str | os.PathLike, image_size: int) -> None:
    """Build teacher and student, run both on two images, and look at what the losses would get.

    Args:
        path: The config.
        image_size: Side of the images.

    Raises:
        ConfigError: Anything in it does not fit.
    """
    try:
        _run(path, image_size)
    except KDLayerError:
        raise
    except Exception as error:
        text = ' '.join(str(error).split())[:300]
        raise ConfigError(
            f'The pair was put together, but it does not run ({type(error).__name__}: {text}). Nothing '
            'was written. Another head, another loss or another --image-size may run.'
        ) from error


@torch.no_grad()
def _run(path: str | os.PathLike, image_size: int) -> None:
    cfg = Config.fromfile(path)
    checkpoint, cfg.model.teacher_ckpt = cfg.model.teacher_ckpt, None
    model: Any = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    if checkpoint and '://' not in checkpoint:
        check_teacher_checkpoint(model.teacher, checkpoint)
    distiller, size = model.distiller, (2, 3, image_size, image_size)
    image = torch.randn(size, generator=torch.Generator().manual_seed(0))
    samples = [DataSample().set_gt_label(label) for label in (0, 1)]
    with evaluating(model.student, model.teacher):
        with distiller.student_recorders:
            model.student(image, samples, mode='loss')
        with distiller.teacher_recorders:
            model.teacher(image, mode='tensor')
        logits = model.student(image, mode='tensor')
    classes = cfg.data_preprocessor.num_classes
    if tuple(logits.shape) != (2, classes):
        raise ConfigError(
            f'The student gives logits {tuple(logits.shape)}, but the data have {classes} classes, so '
            f'(2, {classes}) was expected. Its classes could not be set; give a config of the student '
            'with this number of classes.'
        )
    for layer in find_supervised_layers(distiller):
        feature = distiller.get_record(**layer.feature)
        scores = distiller.get_record(**layer.scores)
        check_shapes(layer, tuple(feature.shape[1:]), tuple(scores.shape[1:]))
    mapping = distiller.loss_forward_mappings.get('loss_inter', {})
    if 'gt_label' in mapping:
        labels = distiller.get_record(**mapping['gt_label'])
        if not isinstance(labels, torch.Tensor) or labels.tolist() != [0, 1]:
            raise ConfigError(
                "The student's head does not give its labels to head.loss_module as the second "
                'argument, which the intermediate layer needs. Use --letkd1.'
            )
    distiller.release_records()
