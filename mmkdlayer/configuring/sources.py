"""Where a network comes from: a model name of mmpretrain, a config of a host library, a file."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hub import get_config
from mmpretrain import list_models
from mmpretrain.apis.model import ModelHub

from mmkdlayer.deploy.student_config import CLASSIFIERS
from mmkdlayer.errors import ConfigError
from mmkdlayer.pipelines import find_pipeline

IMAGENET_NORMALISATION = dict(
    mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
)


@dataclass
class Source:
    """A network to build, and what its own config says about images and training.

    Attributes:
        name: What the user calls it.
        model: The model's config, without weights, preprocessor and training-only parts.
        normalisation: mean, std and to_rgb of the images that it expects.
        image_size: Side of the images that it expects, in pixels.
        weights: Published weights, or None.
        optimizer: Type of the optimiser of its own recipe, or None.
        imports: Modules that its config imports.
    """

    name: str
    model: dict[str, Any]
    normalisation: dict[str, Any]
    image_size: int
    weights: str | None
    optimizer: str | None
    imports: list[str]

    @property
    def num_classes(self) -> int | None:
        """Classes that its own config has."""
        for part in ('head', 'backbone'):
            count = (self.model.get(part) or {}).get('num_classes')
            if isinstance(count, int) and count > 0:
                return count
        return None


def load_source(spec: str, role: str) -> Source:
    """Find and read the config of a network.

    Args:
        spec: A model name as in ``mmpretrain.list_models()``, ``mmpretrain::folder/config.py``, or a
            file.
        role: ``teacher`` or ``student``, for messages.

    Raises:
        ConfigError: There is no such model or file, or it is no classifier.
    """
    cfg, weights = _read(spec, role)
    model = cfg.get('model')
    kind = str((model or {}).get('type')).rsplit('.', 1)[-1]
    if kind not in CLASSIFIERS or not isinstance(model.get('backbone'), dict):
        found = f'type {model.get("type")!r}' if isinstance(model, dict) else 'no model'
        raise ConfigError(
            f'The {role} {spec}: expected the config of an ImageClassifier with a backbone, but found '
            f'{found}. Name a classifier of its own, not a distillation of two.'
        )
    preprocessor = dict(model.get('data_preprocessor') or cfg.get('data_preprocessor') or {})
    optimizer = ((cfg.get('optim_wrapper') or {}).get('optimizer') or {}).get('type')
    normalisation = {
        key: preprocessor.get(key, default) for key, default in IMAGENET_NORMALISATION.items()
    }
    if not _reads_files(cfg):
        # Data sets such as CIFAR give RGB arrays, which to_rgb=False leaves as they are; the image
        # files of the new config are read as BGR.
        normalisation['to_rgb'] = True
    return Source(
        name=spec,
        model=without_training_parts(cfg.to_dict()['model']),
        normalisation=normalisation,
        image_size=_image_size(cfg),
        weights=weights,
        optimizer=None if optimizer is None else str(optimizer).rsplit('.', 1)[-1],
        imports=list((cfg.get('custom_imports') or {}).get('imports') or []),
    )


def _reads_files(cfg: Config) -> bool:
    """Whether the test images come from files (True where the config has no test data)."""
    pipeline = find_pipeline((cfg.get('test_dataloader') or {}).get('dataset'))
    return pipeline is None or any('LoadImage' in str(step.get('type')) for step in pipeline)


def _read(spec: str, role: str) -> tuple[Config, str | None]:
    try:
        if '::' in spec:
            return get_config(spec), None
        if Path(spec).is_file():
            return Config.fromfile(spec), None
        if spec.lower() in (name.lower() for name in list_models()):
            found = ModelHub.get(spec)
            return found.config, found.weights
    except Exception as error:
        text = ' '.join(str(error).split())[:300]
        raise ConfigError(
            f'The {role} {spec}: reading its config failed ({type(error).__name__}: {text}).'
        ) from error
    if spec.endswith(('.py', '.yml', '.yaml', '.json')):
        raise ConfigError(f'The {role} {spec}: there is no such config file.')
    near = get_close_matches(spec.lower(), list_models(), n=5, cutoff=0.4)
    advice = f'Near matches: {", ".join(near)}.' if near else ''
    raise ConfigError(
        f'The {role} {spec}: expected a model name of mmpretrain, a config such as '
        '"mmpretrain::resnet/resnet18_8xb32_in1k.py" or a config file, but there is none. '
        f'{advice} (mmpretrain.list_models() gives all names.)'
    )


def without_training_parts(model: Any, top: bool = True) -> Any:
    """A copy without weights to load and without what only a training of its own needs."""
    if isinstance(model, dict):
        left_out = {'train_cfg', 'data_preprocessor', 'pretrained'} if top else set()
        return {
            key: without_training_parts(value, top=False)
            for key, value in model.items()
            if key not in left_out and not (key == 'init_cfg' and 'Pretrained' in str(value))
        }
    if isinstance(model, (list, tuple)):
        return type(model)(without_training_parts(item, top=False) for item in model)
    return model


def with_classes(model: Any, num_classes: int) -> Any:
    """A copy in which every count of classes (head, loss, backbone with classifier) is another one."""
    if isinstance(model, dict):
        changed: dict[str, Any] = {}
        for key, value in model.items():
            if key == 'num_classes' and isinstance(value, int) and value > 0:
                changed[key] = num_classes
            elif key == 'topk' and num_classes <= 5:
                changed[key] = (1,)
            else:
                changed[key] = with_classes(value, num_classes)
        return changed
    if isinstance(model, (list, tuple)):
        return type(model)(with_classes(item, num_classes) for item in model)
    return model


def _image_size(cfg: Config) -> int:
    """Side of the test images: the last crop or resize, else 32 for CIFAR and 224 for the rest."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    for transform in reversed(find_pipeline(dataset) or []):
        size = transform.get('crop_size', transform.get('scale'))
        if isinstance(size, (tuple, list)) and size:
            size = max(size)
        if isinstance(size, int) and size > 0:
            return size
    return 32 if 'CIFAR' in str(dataset.get('type')) else 224
