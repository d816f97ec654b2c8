"""Tells each teacher how the student's images were made, before it sees the first one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.logging import MMLogger
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.teachers import (
    Normalisation,
    TeacherModule,
    TeacherView,
    attach_views,
    find_view,
)
from mmkdlayer.pipelines import find_pipelines
from mmkdlayer.type_names import type_name

from .preprocessors import SIDES, describe, make_image, preprocessed
from .teachers import find_teachers


def connect_views(algorithm: Any, cfg: Mapping[str, Any]) -> None:
    """Let every teacher that states a normalisation of its own get its batch in it, from now on.

    A teacher whose ``data_preprocessor`` makes the same images as the algorithm's is given the same
    batch; so is one that states none.

    Args:
        algorithm: A distillation algorithm of mmrazor.
        cfg: The training config: ``model``, and ``train_dataloader``, which tells whether images are
            loaded as BGR.

    Raises:
        ConfigError: The teacher's images can't be made of the student's.
    """
    for teacher in find_teachers(algorithm, cfg.get('model') or {}):
        attach_views(teacher.model)  # a distiller of ours has done so
        view = find_view(teacher.model)
        if view is None or view.own is algorithm.data_preprocessor:
            continue
        role = f'teacher "{teacher.name}"' if teacher.name else 'teacher'
        used: Any = algorithm.data_preprocessor
        if isinstance(teacher.model, TeacherModule):
            _connect_module(teacher.model, view, used, cfg, role)
        else:
            _connect_host_model(view, used, role)
        if not view.converts:
            continue
        change = f'from that of the student ({describe(used)}) to its own ({describe(view.own)})'
        if type(algorithm).__name__ == 'FpnTeacherDistill':
            raise ConfigError(
                f"The normalisation of the {role}'s images would have to be converted, {change}, but "
                'FpnTeacherDistill runs its extract_feat alone, where they are not. Use '
                'SingleTeacherDistill, or one normalisation for both.'
            )
        MMLogger.get_current_instance().info(
            f"The normalisation of the {role}'s images is converted, {change}."
        )


def _connect_module(
    teacher: TeacherModule, view: TeacherView, used: nn.Module, cfg: Mapping[str, Any], role: str
) -> None:
    """A network of another library: its images are always made of the student's."""
    if teacher.to_rgb is None:
        view.own.to_rgb = loads_bgr(cfg)  # type: ignore[assignment]
    stated = [type_name(step.get('type')) for step in _steps(cfg) if isinstance(step, Mapping)]
    if not _is_known(used) or 'Normalize' in stated:
        where = "the pipeline's Normalize" if 'Normalize' in stated else type(used).__name__
        raise ConfigError(
            f"The {role}'s images are made of the student's, whose normalisation must be undone for it, "
            f'but that of {where} is none that is known here. Let data_preprocessor alone normalise, '
            'with mean, std and to_rgb, such as a ClsDataPreprocessor.'
        )
    view.connect(used)


def _is_known(used: nn.Module) -> bool:
    """Whether a data preprocessor normalises as its mean, std and order of channels say."""
    image = make_image()
    given, normalisation = preprocessed(used, image), Normalisation.of(used)
    if given is None:
        return False
    image = image[: given.size(1)].float()
    image = image.flip(0) if normalisation.reverses and len(image) == 3 else image
    mean, std = (
        torch.tensor(values).view(-1, 1, 1) for values in (normalisation.mean, normalisation.std)
    )
    # What is padded is resized with the rest.
    return _are_close((image - mean) / std, given[0, :, : SIDES[0], : SIDES[1]])


def _connect_host_model(view: TeacherView, used: nn.Module, role: str) -> None:
    """A model of mmpretrain: if it states nothing, or the same, it takes the student's batch."""
    own = view.own
    channels = [
        value.size(0)
        for value in (getattr(p, 'mean', None) for p in (own, used))
        if value is not None
    ]
    image = make_image(grey=1 in channels)
    expected, given = preprocessed(own, image), preprocessed(used, image)
    if expected is None or given is None or torch.equal(expected, image.float()[None]):
        return
    view.connect(used)
    converted = view.convert(given) if view.converts else given
    if expected.shape != converted.shape or not _are_close(expected, converted):
        view.connect(None)
        raise ConfigError(
            f'The {role} has a data_preprocessor of its own ({describe(own)}). Its mean, std and to_rgb '
            'are honoured, but what else it does to an image can not be made of the batch given, that '
            f"of the student ({describe(used)}). Give both the same of these, or take the {role}'s out."
        )


def loads_bgr(cfg: Mapping[str, Any]) -> bool:
    """Whether the channels of a training's images are B, G, R when the data preprocessor gets them.

    mmcv loads files so; data sets that hold their images in memory, such as CIFAR's, have RGB.
    """
    bgr = not cfg.get('train_dataloader')
    for step in _steps(cfg):
        step = step if isinstance(step, Mapping) else dict(vars(step), type=type(step))
        kind = type_name(step.get('type'))
        if kind.startswith('Load') or (kind == 'PILToNumpy' and step.get('to_bgr')):
            bgr = True
        elif kind == 'NumpyToPIL' and step.get('to_rgb'):
            bgr = False
    return bgr


def _steps(cfg: Mapping[str, Any]) -> list:
    """The transforms of the first training data set."""
    loader = cfg.get('train_dataloader') or {}
    return next(iter(find_pipelines(loader.get('dataset'))), [])


def _are_close(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.allclose(first, second, rtol=1e-4, atol=1e-3)
