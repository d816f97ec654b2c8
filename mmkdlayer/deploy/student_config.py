"""Configs of the student, made from that of its training: on its own, and as the training had it."""

from __future__ import annotations

import copy
import inspect
from types import FunctionType
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmpretrain.models import ImageClassifier
from mmpretrain.registry import DATASETS, METRICS, MODELS, TRANSFORMS

from mmkdlayer.engine.teachers import loads_weights
from mmkdlayer.errors import ConfigError
from mmkdlayer.models import KDLayerClassifier
from mmkdlayer.models.kd_layer_options import standalone_kd_layers
from mmkdlayer.pipelines import find_pipeline
from mmkdlayer.type_names import type_name

from .places import without_places

#: Packages whose classes a config needs no import for.
HOSTS = {
    *('', '__main__', 'mmkdlayer', 'mmpretrain', 'mmengine', 'mmcv', 'mmrazor', 'torch'),
    'torchvision',
}


def student_config(cfg: Config) -> Config:
    """A stock config that builds, tests and infers with the standalone student.

    It keeps what a student needs, and nothing of the machine of its training: no absolute path, no
    visualizer, no hook.

    Raises:
        ConfigError: As :func:`student_model_config`.
    """
    settings = {key: value for key, value in test_settings(cfg).items() if value is not None}
    settings.get('test_dataloader', {}).pop('pin_memory', None)  # where it is tested may be no GPU
    student = ConfigDict(
        custom_imports=dict(imports=['mmkdlayer'], allow_failed_imports=False),
        model=_plain(student_model_config(cfg)),
        default_scope=cfg.get('default_scope') or 'mmpretrain',
        **_plain(without_places(settings)),
    )
    student.custom_imports.imports += sorted(own_modules(student))
    pipeline = find_pipeline(student.get('test_dataloader'))
    if pipeline is not None:
        student.test_pipeline = copy.deepcopy(pipeline)  # where mmdeploy looks for it
    # mmpretrain's own tools expect these two; they are the same for each student.
    student.visualizer = dict(
        type='mmpretrain.UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')]
    )
    student.default_hooks = dict(visualization=dict(type='mmpretrain.VisualizationHook'))
    return Config(student)


def test_settings(cfg: Any) -> dict[str, Any]:
    """How a config tests: ``test_dataloader``, ``test_evaluator``, ``test_cfg``, else those of val."""
    split = 'test' if cfg.get('test_dataloader') else 'val'
    names = ('dataloader', 'evaluator', 'cfg')
    return {f'test_{name}': copy.deepcopy(cfg.get(f'{split}_{name}')) for name in names}


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
    kind = _classifier_type(architecture.get('type'))
    preprocessor = dict(preprocessor or architecture.get('data_preprocessor') or {})
    preprocessor.pop('batch_augments', None)
    preprocessor.setdefault('type', 'mmpretrain.ClsDataPreprocessor')
    distiller = model.get('distiller') or {}
    layers = dict(architecture.pop('kd_layers', None) or {})
    layers.update(standalone_kd_layers(distiller.get('kd_layers') or {}))
    for key in ('type', 'train_cfg', 'data_preprocessor'):
        architecture.pop(key, None)
    return _plain(dict(**kind, **architecture, data_preprocessor=preprocessor, kd_layers=layers))


def _classifier_type(kind: Any) -> dict[str, Any]:
    """``type``, and for a class of the user's ``base``, of a standalone student of this type.

    Raises:
        ConfigError: It is no ImageClassifier.
    """
    own = dict(type='mmkdlayer.KDLayerClassifier')
    if type_name(kind) in ('ImageClassifier', 'KDLayerClassifier'):
        return own
    found = kind if inspect.isclass(kind) or kind is None else MODELS.get(kind)
    if not (inspect.isclass(found) and issubclass(found, ImageClassifier)):
        raise ConfigError(
            f"The student is of type {kind!r}; a standalone student can be made of mmpretrain's "
            'ImageClassifier, of KDLayerClassifier, and of classes derived from them.'
        )
    name = kind if isinstance(kind, str) else f'{found.__module__}.{found.__qualname__}'
    return dict(type=name) if issubclass(found, KDLayerClassifier) else dict(own, base=name)


def _plain(value: Any) -> Any:
    """Without pretrained weights and mmpretrain's scope, the default one; classes by their names."""
    if isinstance(value, dict):
        return {
            key: _plain(item)
            for key, item in value.items()
            if not (key == '_scope_' and item in ('mmpretrain', 'mmcls'))
            and not (key == 'init_cfg' and loads_weights(item))
            and key != 'pretrained'
        }
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, (type, FunctionType)):
        return f'{value.__module__}.{value.__name__}'
    return value


def own_modules(value: Any) -> set[str]:
    """Modules of the user's that hold the classes of a config: whoever builds it has to import them."""
    if isinstance(value, (list, tuple)):
        return set().union(*map(own_modules, value))
    if not isinstance(value, dict):
        return set()
    names = [str(value.get(key)) for key in ('type', 'base')]
    names = [name for name in names if name.replace('.', '').isidentifier()]
    kinds = [r.get(name) for name in names for r in (MODELS, TRANSFORMS, DATASETS, METRICS)]
    modules = {getattr(kind, '__module__', '') for kind in kinds}
    own = {module for module in modules if module.split('.')[0] not in HOSTS}
    return own | own_modules(list(value.values()))


def without_teacher(cfg: Config) -> Config:
    """A copy of the config without the weights that only training needs: of teachers and decisions.

    Teachers of other libraries are left out as a whole: of them there are only the names that are read.
    """
    cfg = Config(cfg.to_dict())
    distiller = cfg.model.get('distiller') or {}
    layers, recorders = distiller.get('kd_layers') or {}, distiller.get('teacher_recorders') or {}
    names = [layer.get('teacher') for layer in layers.values()]
    names += [recorder.get('source') for recorder in recorders.values() if recorder]
    # Those of one of a group begin with its name.
    names += [name.partition('.')[2] for name in names if name]
    modules = sorted(set(filter(None, names)))
    cfg.model = _without_weights(cfg.model, modules)
    return cfg


def _without_weights(value: Any, modules: list[str]) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_without_weights(item, modules) for item in value)
    if not isinstance(value, dict):
        return value
    if type_name(value.get('type')) == 'TeacherModule':
        return dict(type='mmkdlayer.NoTeacher', modules=modules)
    weights = ('pretrained', 'teacher_ckpt', 'checkpoints', 'ckpt_path')
    kept = {k: _without_weights(item, modules) for k, item in value.items() if k not in weights}
    if isinstance(kept.get('decision'), dict):
        kept['decision'].pop('file', None)
    if 'cfg_path' in kept:
        kept['pretrained'] = False  # True by default where such a config has weights
    return kept
