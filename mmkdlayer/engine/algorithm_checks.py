"""Settings of an algorithm that contradict each other, or that nothing would read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.hub import get_config
from torch import nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.distillers import KDLayerDistiller

from .preprocessors import describe, make_image, preprocessed
from .supervision import find_supervised_layers
from .teachers import find_teachers


def check_algorithm(algorithm: Any, model_cfg: Mapping[str, Any]) -> None:
    """Check the parts of a distillation algorithm of mmrazor, and its config, before it is used.

    Raises:
        ConfigError: A teacher that is trained is to decide; a network has a data preprocessor of its
            own that is not used; an option has no effect.
    """
    distiller = getattr(algorithm, 'distiller', None)
    layers = find_supervised_layers(distiller)
    for teacher in find_teachers(algorithm, model_cfg):
        role = f'teacher "{teacher.name}"' if teacher.name else 'teacher'
        trained = any(parameter.requires_grad for parameter in teacher.model.parameters())
        if trained and layers:
            raise ConfigError(
                f'The {role} is trained (teacher_trainable=True), but the decisions of '
                f'{[layer.name for layer in layers]} are fitted on it once, before training, so they '
                'would be those of another teacher. Freeze the teacher, or take the decisions out.'
            )
    if hasattr(getattr(algorithm, 'teacher', None), 'members'):
        check_preprocessor(algorithm, algorithm.teacher, 'group of teachers')
    if getattr(algorithm, 'student', algorithm) is not algorithm:
        check_preprocessor(algorithm, algorithm.student, 'student')
        _check_augments(algorithm)
    _check_options(algorithm, model_cfg)
    check_stock_networks(model_cfg)


def check_preprocessor(algorithm: Any, network: nn.Module, role: str) -> None:
    """Refuse a network whose own data preprocessor would normalise images in another way.

    The algorithm's alone is used, except by teachers (:mod:`mmkdlayer.engine.teacher_views`). Both
    are run on an image; one that changes nothing, as that of a network whose config states none, asks
    for nothing. ``role`` is what the network is, for messages.

    Raises:
        ConfigError: They give different images.
    """
    used, own = algorithm.data_preprocessor, getattr(network, 'data_preprocessor', None)
    if own is None or own is used:
        return
    image = make_image()
    expected, given = preprocessed(own, image), preprocessed(used, image)
    if expected is None or given is None or torch.equal(expected, image.float()[None]):
        return
    if expected.shape != given.shape or not torch.allclose(expected, given, atol=1e-4):
        raise ConfigError(
            f'The {role} has a data_preprocessor of its own ({describe(own)}), but images are '
            f'normalised once for all networks, by data_preprocessor of the config ({describe(used)}): '
            f'the {role} would see images that it was not made for. Give both the same values, or take '
            f"the {role}'s out."
        )


def _check_augments(algorithm: Any) -> None:
    """Refuse batch augments of a student whose data preprocessor is not the one that is used."""
    used = algorithm.data_preprocessor
    own = getattr(algorithm.student, 'data_preprocessor', None)
    if own is used or getattr(own, 'batch_augments', None) is None:
        return
    if getattr(used, 'batch_augments', None) is None:
        raise ConfigError(
            'The student has batch augments (architecture.train_cfg.augments, or batch_augments in '
            'its data_preprocessor), which are not read, because the config has a data_preprocessor '
            'outside of it. Move them there, data_preprocessor.batch_augments=dict(augments=[...]), or '
            'take them out.'
        )


def _check_options(algorithm: Any, model_cfg: Mapping[str, Any]) -> None:
    """Refuse options of the algorithm that have no effect beside others."""
    distiller = getattr(algorithm, 'distiller', None)
    if hasattr(getattr(algorithm, 'teacher', None), 'members') and model_cfg.get('teacher_ckpt'):
        raise ConfigError(
            'teacher_ckpt is the file of one teacher, but the teacher is a TeacherGroup. Name the file '
            'of each in its checkpoints, and set teacher_ckpt=None.'
        )
    if not getattr(algorithm, 'student_trainable', True) and algorithm.calculate_student_loss:
        raise ConfigError(
            "student_trainable=False has no effect while the student's own loss trains it. Set "
            'calculate_student_loss=False too, or take it out.'
        )
    if not isinstance(distiller, KDLayerDistiller):
        return
    frozen = not getattr(algorithm, 'teacher_trainable', False)
    if frozen and not getattr(algorithm, 'teacher_norm_eval', True):
        raise ConfigError(
            'teacher_norm_eval=False has no effect with KDLayerDistiller, which keeps a frozen teacher '
            'in eval mode as a whole. Take it out.'
        )
    given = distiller.teacher_dtype is not None or distiller.teacher_channels_last
    if given and type(algorithm).__name__ == 'FpnTeacherDistill':
        raise ConfigError(
            'teacher_dtype and teacher_channels_last have no effect with FpnTeacherDistill, which runs '
            "the teacher's extract_feat alone. Take them out."
        )


def check_stock_networks(model_cfg: Mapping[str, Any]) -> None:
    """Refuse keys beside a ``cfg_path`` that its config has too: mmengine leaves them out.

    Raises:
        ConfigError: There are such keys, with other values.
    """
    networks = {key: model_cfg.get(key) or {} for key in ('architecture', 'teacher')}
    for name, member in (networks['teacher'].get('teachers') or {}).items():
        networks[f'teacher.teachers.{name}'] = member
    for key, network in networks.items():
        if not isinstance(network, Mapping) or 'cfg_path' not in network or network.get('type'):
            continue
        stock = get_config(network['cfg_path'])
        found = {'data_preprocessor': stock.get('data_preprocessor'), **stock.model}
        ignored = [k for k in network if found.get(k) is not None and network[k] != found[k]]
        if ignored:
            raise ConfigError(
                f'model.{key} has {", ".join(ignored)} beside cfg_path={network["cfg_path"]}, whose own '
                'values are used instead. Write the network out (docs/own_pair.md shows how), or take '
                'them out.'
            )
