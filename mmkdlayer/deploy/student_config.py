"""Configs of the student, made from that of its training: on its own, and as the training had it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.kd_layer_options import standalone_kd_layers
from mmkdlayer.models.old_form import refuse_old_form
from mmkdlayer.pipelines import find_pipeline
from mmkdlayer.type_names import type_name

CLASSIFIERS = ('ImageClassifier', 'KDLayerClassifier')
TOP_LEVEL = (
    'default_scope',
    'test_dataloader',
    'test_evaluator',
    'test_cfg',
    'default_hooks',
    'env_cfg',
    'visualizer',
    'log_level',
)


def student_config(cfg: Config) -> Config:
    """A stock config that builds, tests and infers with the standalone student.

    Raises:
        ConfigError: As :func:`student_model_config`.
    """
    student = ConfigDict(
        custom_imports=dict(imports=['mmkdlayer'], allow_failed_imports=False),
        model=student_model_config(cfg),
    )
    for key in TOP_LEVEL:
        if cfg.get(key) is not None:
            student[key] = copy.deepcopy(cfg[key])
    student.setdefault('default_scope', 'mmpretrain')
    pipeline = find_pipeline(cfg.get('test_dataloader'))
    if pipeline is not None:
        student.test_pipeline = copy.deepcopy(pipeline)  # where mmdeploy looks for it
    return Config(student)


def student_model_config(cfg: Config) -> dict:
    """The ``model`` of the standalone student: mmpretrain's classifier with its KD layers.

    Args:
        cfg: The training config; or that of an exported student or of a plain classifier, whose model
            stays as it is.

    Raises:
        ConfigError: The student is no ImageClassifier, or a KD layer is declared wrongly.
    """
    model = copy.deepcopy(cfg.model)
    preprocessor = model.get('data_preprocessor') or copy.deepcopy(cfg.get('data_preprocessor'))
    if 'architecture' not in model:
        if preprocessor:
            model['data_preprocessor'] = preprocessor
        return model
    architecture = model['architecture']
    if not isinstance(architecture, dict):
        raise ConfigError(
            'Expected a distillation config, whose model has an `architecture` (the student), but '
            f'its model is of type {model.get("type")!r} with the keys {sorted(model)}.'
        )
    if 'cfg_path' in architecture:
        stock = get_config(architecture.pop('cfg_path'))
        architecture = ConfigDict(architecture, **stock.model)
        if 'data_preprocessor' in stock:
            architecture.data_preprocessor = stock.data_preprocessor
    if type_name(architecture.get('type')) not in CLASSIFIERS:
        raise ConfigError(
            f'The student is of type {architecture.get("type")!r}; a standalone student can be made '
            f'from {" or ".join(CLASSIFIERS)} only.'
        )
    preprocessor = dict(preprocessor or architecture.get('data_preprocessor') or {})
    preprocessor.pop('batch_augments', None)
    preprocessor.setdefault('type', 'mmpretrain.ClsDataPreprocessor')
    distiller = model.get('distiller') or {}
    refuse_old_form(distiller.get('kd_layers') or {}, distiller)
    layers = dict(architecture.pop('kd_layers', None) or {})
    layers.update(standalone_kd_layers(distiller.get('kd_layers') or {}))
    for key in ('type', 'pretrained', 'train_cfg', 'data_preprocessor'):
        architecture.pop(key, None)
    return _plain(
        dict(
            type='mmkdlayer.KDLayerClassifier',
            **architecture,
            data_preprocessor=preprocessor,
            kd_layers=layers,
        )
    )


def _plain(value: Any) -> Any:
    """Without pretrained weights and mmpretrain's scope, the default one; classes by their names."""
    if isinstance(value, dict):
        return {
            key: _plain(item)
            for key, item in value.items()
            if not (key == '_scope_' and item in ('mmpretrain', 'mmcls'))
            and not (key == 'init_cfg' and 'Pretrained' in str(item))
        }
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    return f'{value.__module__}.{value.__name__}' if isinstance(value, type) else value


def find_input_size(cfg: Config) -> tuple[int, int]:
    """Height and width of the images after the test pipeline: by its last crop or resize, else 64."""
    for transform in reversed(find_pipeline(cfg.get('test_dataloader')) or []):
        for key in ('crop_size', 'scale'):
            size = transform.get(key)
            if isinstance(size, int):
                return size, size
            if isinstance(size, (tuple, list)) and len(size) == 2:
                return (size[0], size[1]) if key == 'crop_size' else (size[1], size[0])
    return 64, 64


def without_teacher(cfg: Config) -> Config:
    """A copy of the config without the weights that only training needs: of teachers and decisions."""
    cfg = Config(cfg.to_dict())
    model = cfg.model
    if 'teacher_ckpt' in model:
        model.teacher_ckpt = None
    teacher = model.get('teacher') or {}
    teacher.pop('checkpoints', None)
    several = list((model.get('teachers') or {}).values())
    for entry in several:
        entry.pop('ckpt_path', None)
    members = [entry.get('build_cfg') or {} for entry in several]
    for network in (teacher, *(teacher.get('teachers') or {}).values(), *members):
        network.pop('pretrained', None)  # True by default where a cfg_path has weights
        if 'cfg_path' in network:
            network['pretrained'] = False
    if 'cfg_path' in (model.get('architecture') or {}):
        model.architecture.pretrained = False
    for decision in decision_configs(cfg.model).values():
        decision.pop('file', None)
    return cfg


def decision_configs(model_cfg: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The configs of a training model's decisions, by the name of the KD layer or loss."""
    distiller = model_cfg.get('distiller') or {}
    owners = {**(distiller.get('kd_layers') or {}), **(distiller.get('distill_losses') or {})}
    return {
        name: owner['decision']
        for name, owner in owners.items()
        if isinstance(owner, Mapping) and isinstance(owner.get('decision'), Mapping)
    }
