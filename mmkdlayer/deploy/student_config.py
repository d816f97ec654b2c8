"""The config of the standalone student, made from that of its training."""

from __future__ import annotations

import copy
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.kd_layer_options import standalone_kd_layers
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
    pipeline = find_pipeline((cfg.get('test_dataloader') or {}).get('dataset'))
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
    model = cfg.model
    preprocessor = model.get('data_preprocessor') or cfg.get('data_preprocessor')
    if 'architecture' not in model:
        model = copy.deepcopy(model)
        if preprocessor:
            model['data_preprocessor'] = copy.deepcopy(preprocessor)
        return model
    architecture = _architecture_config(model)
    if type_name(architecture.get('type')) not in CLASSIFIERS:
        raise ConfigError(
            f'The student is of type {architecture.get("type")!r}; a standalone student can be made '
            f'from {" or ".join(CLASSIFIERS)} only.'
        )
    preprocessor = dict(preprocessor or architecture.get('data_preprocessor') or {})
    preprocessor.pop('batch_augments', None)
    preprocessor.setdefault('type', 'mmpretrain.ClsDataPreprocessor')
    layers = dict(architecture.pop('kd_layers', None) or {})
    layers.update(standalone_kd_layers((model.get('distiller') or {}).get('kd_layers') or {}))
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


def _architecture_config(model: dict) -> dict:
    """The student's config inside a distillation model's, with ``cfg_path`` resolved.

    Raises:
        ConfigError: The model has no ``architecture``.
    """
    architecture = model.get('architecture')
    if not isinstance(architecture, dict):
        raise ConfigError(
            'Expected a distillation config, whose model has an `architecture` (the student), but '
            f'its model is of type {model.get("type")!r} with the keys {sorted(model)}.'
        )
    architecture = copy.deepcopy(dict(architecture))
    if 'cfg_path' not in architecture:
        return architecture
    architecture.pop('pretrained', None)
    stock = get_config(architecture.pop('cfg_path'))
    resolved = dict(stock.model)
    if 'data_preprocessor' in stock:
        resolved['data_preprocessor'] = stock.data_preprocessor
    for key, value in architecture.items():
        resolved.setdefault(key, value)
    return resolved


def _plain(value: Any) -> Any:
    """Leave out pretrained weights, and mmpretrain's scope, which is the default one there.

    Classes (of pure-Python configs) become their names with the module, as a config file needs them.
    """
    if isinstance(value, dict):
        kept = {}
        for key, item in value.items():
            if key == '_scope_' and item in ('mmpretrain', 'mmcls'):
                continue
            if key == 'init_cfg' and 'Pretrained' in str(item):
                continue
            kept[key] = _plain(item)
        return kept
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    return f'{value.__module__}.{value.__name__}' if isinstance(value, type) else value


def find_input_size(cfg: Config) -> tuple[int, int]:
    """Height and width of the images after the test pipeline: by its last crop or resize, else 64."""
    loader = cfg.get('test_dataloader') or {}
    for transform in reversed(find_pipeline(loader.get('dataset')) or []):
        for key in ('crop_size', 'scale'):
            size = transform.get(key)
            if isinstance(size, int):
                return size, size
            if isinstance(size, (tuple, list)) and len(size) == 2:
                return (size[0], size[1]) if key == 'crop_size' else (size[1], size[0])
    return 64, 64
