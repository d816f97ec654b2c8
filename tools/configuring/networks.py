"""Where a network comes from: a model name of mmpretrain, a config of a host library, a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hub import get_config
from mmpretrain import list_models
from mmpretrain.apis.model import ModelHub
from torch import nn

from mmkdlayer.deploy.example_images import first_channels
from mmkdlayer.deploy.file_pipeline import array_shape
from mmkdlayer.engine.teachers import loads_weights
from mmkdlayer.errors import ConfigError, KDLayerError
from mmkdlayer.pipelines import find_pipeline
from mmkdlayer.registry import MODELS
from mmkdlayer.type_names import type_name

from .recipes import Recipe

#: What of a recipe's optim_wrapper belongs to its optimiser.
OF_OPTIMIZERS = ('optimizer', 'paramwise_cfg', 'clip_grad', 'constructor')
#: Heads with a second classifier for hard distillation, which mmpretrain can not train.
DISTILLED_HEADS = ('LeViTClsHead', 'EfficientFormerClsHead')
CLASSIFIERS = ('ImageClassifier', 'KDLayerClassifier')
IMAGENET_NORMALISATION = dict(
    mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
)


@dataclass
class Network:
    """A classifier for the classes of the data, and what its own config says."""

    name: str  #: what the user calls it
    model: dict[str, Any]  #: config, without weights, preprocessor and training-only parts
    normalisation: dict[str, Any]  #: mean, std and to_rgb of the images that it expects
    image_size: int  #: side of the images that it expects, in pixels
    weights: str | None  #: published weights, where they are for as many classes, or for none
    published: str | None  #: published weights, for whatever classes
    recipe: Recipe  #: how its own config trains it
    imports: list[str]  #: modules that its config imports
    augments: dict[str, Any] | None = None  #: batch augments of its own recipe (Mixup, CutMix)


def load_network(spec: str, role: str, num_classes: int) -> Network:
    """Find and read the config of a network, and set its number of classes.

    Args:
        spec: A model name as in ``mmpretrain.list_models()``, ``mmpretrain::folder/config.py``, or a
            file.
        role: ``teacher`` or ``student``, for messages.
        num_classes: C of the data.

    Raises:
        ConfigError: There is no such model or file, or it is no classifier.
    """
    found, published = _read(spec, role)
    cfg = found.to_dict()
    model = cfg.get('model')
    kind = model.get('type') if isinstance(model, dict) else None
    if type_name(kind) not in CLASSIFIERS or 'backbone' not in model:
        raise ConfigError(
            f'The {role} {spec}: expected the config of an ImageClassifier with a backbone, but found '
            f'{"no model" if model is None else f"type {kind!r}"}. Name a classifier of its own, not '
            'a distillation of two.'
        )
    if role == 'student' and model.get('kd_layers'):
        raise ConfigError(
            f'The student {spec} is a KDLayerClassifier, which has KD layers already: '
            f'{", ".join(model["kd_layers"])}. This command places new ones, so give the network '
            'without them: an ImageClassifier, or the same config without kd_layers.'
        )
    if role == 'student' and not model.get('head'):
        raise ConfigError(
            f'The student {spec} has no head, so it gives no logits. Give a config of it with one, '
            "such as head=dict(type='LinearClsHead', num_classes=..., in_channels=...)."
        )
    preprocessor = model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    normalisation = {
        key: preprocessor.get(key) if preprocessor.get(key) is not None else default
        for key, default in IMAGENET_NORMALISATION.items()
    }
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    pipeline = find_pipeline(dataset)
    if pipeline and not any('LoadImage' in type_name(step.get('type')) for step in pipeline):
        # Data sets such as CIFAR give RGB arrays, which to_rgb=False leaves as they are; the image
        # files of the new config are read as BGR.
        normalisation['to_rgb'] = True
    optim = cfg.get('optim_wrapper') or {}
    base_batch_size = (cfg.get('auto_scale_lr') or {}).get('base_batch_size') or 256
    train_cfg = model.get('train_cfg') or {}
    augments = preprocessor.get('batch_augments') or (
        train_cfg if 'augments' in train_cfg else None
    )
    counts = [(model.get(part) or {}).get('num_classes') for part in ('head', 'backbone')]
    fits = num_classes in counts or not model.get('head')
    for key in ('train_cfg', 'data_preprocessor', 'pretrained'):
        model.pop(key, None)
    if type_name((model.get('head') or {}).get('type')) in DISTILLED_HEADS:
        model['head']['distillation'] = False
    return Network(
        name=spec,
        model=adapt(model, num_classes),
        normalisation=normalisation,
        image_size=_image_size(dataset, pipeline or []),
        # A config alone says nothing of weights: those of the same name are for fine-tuning.
        weights=published if '::' not in spec and fits else None,
        published=published,
        recipe=Recipe({key: optim[key] for key in OF_OPTIMIZERS if key in optim}, base_batch_size),
        imports=list((cfg.get('custom_imports') or {}).get('imports') or []),
        augments=augments,
    )


def _read(spec: str, role: str) -> tuple[Config, str | None]:
    """The config, and where the published weights are."""
    is_file = spec.endswith(('.py', '.yml', '.yaml', '.json'))
    name = Path(spec).stem if '::' in spec else spec
    near = get_close_matches(name.lower(), list_models(), n=5, cutoff=0.4)
    what = (
        f'The {role} {spec}: expected a model name of mmpretrain, a config such as '
        '"mmpretrain::resnet/resnet18_8xb32_in1k.py" or a config file, but reading it failed'
    )
    advice = (
        f' Near matches: {", ".join(near) or "none"} (mmpretrain.list_models() gives all names).'
    )
    if is_file and '::' not in spec and Path(spec).is_file():
        advice = ' The file is there: look at its _base_ and at what it imports.'
    with as_config_error(what, advice):
        if '::' in spec:
            named = name in list_models()
            return get_config(spec), ModelHub.get(name).weights if named else None
        if is_file:
            return Config.fromfile(spec), None
        found = ModelHub.get(spec)
        return found.config, found.weights


def _image_size(dataset: dict, pipeline: list[dict]) -> int:
    """Side of the test images: the last crop or resize, else that of the data set's arrays, else 224."""
    for transform in reversed(pipeline):
        size = transform.get('crop_size', transform.get('scale'))
        if isinstance(size, (tuple, list)) and size:
            size = max(size)
        if isinstance(size, int) and size > 0:
            return size
    shape = array_shape(dataset)
    return max(shape[:2]) if shape else 224


def adapt(model: Any, num_classes: int) -> Any:
    """A copy without weights to load, in which every count of classes (head, loss, backbone) is new."""
    if isinstance(model, (list, tuple)):
        return type(model)(adapt(item, num_classes) for item in model)
    if not isinstance(model, dict):
        return model
    changed = {}
    for key, value in model.items():
        if key == 'init_cfg' and loads_weights(value):
            continue
        if key == 'num_classes' and isinstance(value, int) and value > 0:
            value = num_classes
        elif key == 'topk' and num_classes <= 5:
            value = (1,)
        changed[key] = adapt(value, num_classes)
    return changed


def build_network(model: dict[str, Any], role: str) -> nn.Module:
    """Build a network without weights; raises a ConfigError where that fails."""
    with as_config_error(f'The {role}: building it failed'):
        return MODELS.build({'_scope_': 'mmpretrain', **model})


def image_channels(network: nn.Module) -> int:
    """Channels of the images that a network takes: those of its first convolution, 3 without one."""
    try:
        return first_channels(network)
    except ConfigError:
        return 3


@contextmanager
def as_config_error(what: str, advice: str = '') -> Iterator[None]:
    """Raise a ConfigError that says what failed, and what helps, in the place of a library's error."""
    try:
        yield
    except KDLayerError:
        raise
    except Exception as error:
        text = ' '.join(str(error).split())[:300]
        raise ConfigError(f'{what} ({type(error).__name__}: {text}).{advice}') from error
