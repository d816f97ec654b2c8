"""Builds a written config and runs it once, before the user does."""

from __future__ import annotations

import os
from typing import Any

import torch
from mmengine.config import Config
from mmpretrain.structures import DataSample

from mmkdlayer.engine.hooks.check_weights_hook import check_teacher_checkpoint
from mmkdlayer.engine.supervision import check_shapes, find_supervised_layers
from mmkdlayer.errors import CheckpointError, ConfigError
from mmkdlayer.models.evaluating import evaluating
from mmkdlayer.registry import MODELS

from .dkd import DKD
from .networks import as_config_error, image_channels


def check_config(path: str | os.PathLike, image_size: int, dkd: bool = False) -> Any:
    """Build teacher and student, run both on two images, and look at what the losses would get.

    The student takes half a step of training too: a gradient must reach each KD layer. With
    ``dkd`` what DKD compares is recorded too.

    Returns:
        The distiller, with what it recorded.

    Raises:
        ConfigError: Anything in the config does not fit.
        CheckpointError: The weights are not the teacher's, or are for other classes.
    """
    what = 'The pair was put together, but it does not run'
    advice = ' Nothing was written. Another head, another loss or another --image-size may run.'
    with as_config_error(what, advice), torch.no_grad():
        cfg = Config.fromfile(path)
        checkpoint, cfg.model.teacher_ckpt = cfg.model.teacher_ckpt, None
        if dkd:
            cfg.merge_from_dict(dict(model=dict(distiller=DKD)))
        model: Any = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
        if checkpoint and '://' not in checkpoint:
            try:
                check_teacher_checkpoint(model.teacher, checkpoint)
            except CheckpointError as error:
                raise CheckpointError(
                    f'{error} For weights of this network for other classes: --teacher-out '
                    f'TEACHER_FILE --teacher-init {checkpoint}, in the place of --teacher-ckpt, writes '
                    'the config that fine-tunes them.'
                ) from error
        channels = image_channels(model.student)
        distiller, size = model.distiller, (2, channels, image_size, image_size)
        images = torch.randn(size, generator=torch.Generator().manual_seed(0))
        samples = [DataSample().set_gt_label(label) for label in (0, 1)]
        with distiller.student_recorders, torch.enable_grad():
            losses = model.student(images, samples, mode='loss')
            model.student.parse_losses(losses)[0].backward()
        with evaluating(model.student, model.teacher):
            with distiller.teacher_recorders:
                model.teacher(images, mode='tensor')
            logits = model.student(images, mode='tensor')
        classes = cfg.data_preprocessor.num_classes
        several = (
            logits if isinstance(logits, (tuple, list)) else [logits]
        )  # Conformer has two heads
        if any(tuple(one.shape) != (2, classes) for one in several):
            raise ConfigError(
                f'The student gives logits {tuple(several[0].shape)}, but the data have {classes} '
                f'classes, so (2, {classes}) was expected. Its classes could not be set; give a config '
                'of the student with this number of classes.'
            )
        for name, layer in model.student.kd_layers.items():
            if getattr(layer, 'alpha', 1) != 0 and not any(
                p.grad is not None and bool((p.grad != 0).any()) for p in layer.parameters()
            ):
                raise ConfigError(
                    f'In training, no gradient reaches the KD layer "{name}". A network that '
                    'calculates the gradients of its blocks itself needs to be told not to, such as '
                    'no_custom_backward=True of RevVisionTransformer.'
                )
        for layer in find_supervised_layers(distiller):
            feature = distiller.get_record(**layer.feature)
            scores = distiller.get_record(**layer.scores)
            check_shapes(layer, tuple(feature.shape[1:]), tuple(scores.shape[1:]))
    return distiller
