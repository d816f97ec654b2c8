"""Networks of other libraries: where they come from, and what they tell about their images."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Optional, Union

from mmengine.hub import get_model
from torch import nn

from mmkdlayer.checkpoints import load_weights
from mmkdlayer.errors import CheckpointError, ConfigError, KDLayerError
from mmkdlayer.models.attach import suggest_names
from mmkdlayer.registry import MODELS

from .view import Normalisation
from .weights import read_weights

Size = Optional[tuple[int, int]]
#: A file, True for what the library publishes, None for random ones.
Weights = Union[str, bool, None]

_KINDS = (
    "'timm:NAME', 'torchvision:NAME', 'hf:NAME' (or a local folder), 'package.module:function', or the "
    'config of a model of mmpretrain'
)
#: Of pixels from 0 to 255, while the libraries count from 0 to 1.
_PIXELS = 255.0


@dataclass
class Network:
    """A network and what its source tells about the images that it is made for."""

    model: nn.Module  #: the network
    #: Of each channel, for pixels from 0 to 255; None where the source does not tell.
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None  #: of each channel
    #: Whether BGR images are made RGB; None for the other libraries: theirs are RGB.
    to_rgb: bool | None = None
    input_size: Size = None  #: (height, width); None where the source does not tell
    #: What its forward pass is given beside the images.
    forward_arguments: Mapping[str, Any] | None = None


def build_network(
    source: str | Mapping | nn.Module, weights: Weights, size: Size, arguments: Mapping[str, Any]
) -> Network:
    """Build a network and load its weights.

    Source, weights and arguments are as in :class:`~mmkdlayer.models.teachers.TeacherModule`;
    ``size`` is (height, width) of the images that it will be given, if it is stated.

    Raises:
        CheckpointError: The file does not fit.
        ConfigError: It can't be built; the message says what to install or to change.
    """
    if isinstance(source, (Mapping, nn.Module)):
        return _of_host(source, weights, arguments)
    library, _, name = str(source).partition(':')
    if not name:
        raise ConfigError(f'TeacherModule: source must be one of {_KINDS}, but got {source!r}.')
    builders: dict[str, Callable] = dict(
        timm=_of_timm, torchvision=_of_torchvision, hf=_of_transformers
    )
    return builders.get(library, _of_function)(source, name, weights, size, arguments)


def is_function(source: Any) -> bool:
    """Whether a source is a function, 'package.module:function', which loads weights by itself."""
    library, _, name = source.partition(':') if isinstance(source, str) else ('', '', '')
    return bool(name) and library not in ('timm', 'torchvision', 'hf')


def _of_timm(
    source: str, name: str, weights: Weights, size: Size, arguments: Mapping[str, Any]
) -> Network:
    models = _imported('timm.models', 'timm', source)
    given: dict[str, Any] = dict(arguments)
    if name.split('.')[0] not in models.list_models() and ':' not in name:
        near = suggest_names(name.split('.')[0], models.list_models())
        raise ConfigError(f'TeacherModule: timm has no model "{name}". {near}')
    if isinstance(weights, str):  # timm adapts them: the size of position embeddings, another head
        given['pretrained_cfg_overlay'] = dict(state_dict=read_weights(weights))
    with _building(source, weights):
        stated = None if ':' in name else models.get_pretrained_cfg(name)
        if size and stated is not None and stated.fixed_input_size:
            given.setdefault('img_size', size)
        model = importlib.import_module('timm').create_model(
            name, pretrained=bool(weights), **given
        )
    config = model.pretrained_cfg
    config.pop('state_dict', None)
    return Network(
        model,
        _pixels(config.get('mean')),
        _pixels(config.get('std')),
        input_size=given.get('img_size') or tuple(config.get('input_size', ())[1:]) or None,
    )


def _of_torchvision(
    source: str, name: str, weights: Weights, size: Size, arguments: Mapping[str, Any]
) -> Network:
    models = importlib.import_module('torchvision.models')
    if name not in models.list_models():
        near = suggest_names(name, models.list_models())
        raise ConfigError(f'TeacherModule: torchvision has no model "{name}". {near}')
    published = models.get_model_weights(name)
    names = [entry.name for entry in published]
    is_file = isinstance(weights, str) and weights not in names
    with _building(source, weights):
        wanted = None if is_file or not weights else 'DEFAULT' if weights is True else weights
        model = models.get_model(name, weights=wanted, **arguments)
    if is_file:
        load_weights(model, read_weights(str(weights)), f'Weights {weights}')
    if not names:
        return Network(model)
    images = (published[wanted] if wanted else published.DEFAULT).transforms()
    crop = getattr(images, 'crop_size', None)
    size = (crop[0], crop[-1]) if crop else None
    return Network(
        model,
        _pixels(getattr(images, 'mean', None)),
        _pixels(getattr(images, 'std', None)),
        input_size=size,
    )


def _of_transformers(
    source: str, name: str, weights: Weights, size: Size, arguments: Mapping[str, Any]
) -> Network:
    library = _imported('transformers', 'transformers', source)
    if isinstance(weights, str):
        raise ConfigError(
            f'TeacherModule: weights of {source} are found by its name. Give weights=True, and as '
            f'source the folder of the file, with its config.json: hf:FOLDER; got weights={weights!r}.'
        )
    with _building(source, weights):
        config = library.AutoConfig.from_pretrained(name, **arguments)
        if config.model_type == 'vit_mae':
            raise ConfigError(
                f'TeacherModule: {source} is a masked autoencoder, which hides and shuffles patches '
                'in each forward pass. Take its encoder from timm: timm:vit_base_patch16_224.mae.'
            )
        if weights:
            model, loaded = library.AutoModel.from_pretrained(
                name, config=config, output_loading_info=True, **_of_the_hub(arguments)
            )
            missing = [key for key in loaded['missing_keys'] if 'pooler' not in key]
            if missing:
                raise CheckpointError(
                    f'Weights of {source} do not fit {type(model).__name__}: {len(missing)} are missing '
                    f'({", ".join(sorted(missing)[:3])}). Correct source.'
                )
        else:
            model = library.AutoModel.from_config(config)
        images = _read_json(library, name, **_of_the_hub(arguments))
    model = getattr(model, 'vision_model', model)  # of a pair with a text tower, as CLIP
    resizes = 'interpolate_pos_encoding' in inspect.signature(model.forward).parameters
    height = images.get('crop_size' if images.get('do_center_crop', True) else 'size')
    return Network(
        model.float(),
        _pixels(images.get('image_mean')),
        _pixels(images.get('image_std')),
        input_size=_side(height or images.get('size') or getattr(model.config, 'image_size', None)),
        forward_arguments=dict(interpolate_pos_encoding=True) if resizes else None,
    )


def _of_function(
    source: str, name: str, weights: Weights, size: Size, arguments: Mapping[str, Any]
) -> Network:
    try:
        function = getattr(importlib.import_module(source.partition(':')[0]), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f'TeacherModule: source must be one of {_KINDS}, but {source!r} can not be imported '
            f'({error}). The module must be on the PYTHONPATH.'
        ) from error
    if weights is True:
        raise ConfigError(
            f'TeacherModule: weights=True asks for what a library publishes, but {source} is a '
            'function. It loads its weights by itself; or name a file.'
        )
    with _building(source, weights):
        model = function(**arguments)
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f'TeacherModule: {source} must return an nn.Module, but gives a {type(model).__name__}.'
        )
    if weights:
        load_weights(model, read_weights(str(weights)), f'Weights {weights}')
    return Network(model)


def _of_host(
    source: Mapping | nn.Module, weights: Weights, arguments: Mapping[str, Any]
) -> Network:
    """A model of mmpretrain, built already or not."""
    if weights is True or arguments:
        raise ConfigError(
            'TeacherModule: weights=True and arguments are for sources of other libraries. Name a file, '
            'and put arguments into the config of the model.'
        )
    model: Any = source
    if isinstance(source, Mapping):
        if 'cfg_path' in source and len(source) > 1:
            raise ConfigError(
                f'TeacherModule: source has {", ".join(set(source) - {"cfg_path"})} beside cfg_path, '
                'which would be ignored. Write the network out, or take them out.'
            )
        model = get_model(**source) if 'cfg_path' in source else MODELS.build(dict(source))
        model.init_weights()
    if weights:
        load_weights(model, read_weights(str(weights)), f'Weights {weights}')
    stated = Normalisation.of(getattr(model, 'data_preprocessor', None))
    if not hasattr(getattr(model, 'data_preprocessor', None), 'mean'):
        return Network(model)
    return Network(model, stated.mean, stated.std, stated.reverses)


def _imported(module: str, package: str, source: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f'TeacherModule: {source} needs {package}, which can not be imported here ({error}). '
            f'Install it: pip install "mmkdlayer[teachers]", or pip install {package}.'
        ) from error


@contextmanager
def _building(source: str, weights: Weights) -> Iterator[None]:
    """Turn what a library raises while it builds a network into a ConfigError."""
    try:
        yield
    except KDLayerError:
        raise
    except Exception as error:  # of any library, and of what it downloads with
        hint = (
            'Published weights are downloaded; without a network, fetch the file before and name it: '
            'weights=FILE.'
            if weights is True
            else 'Correct source, arguments, input_size or weights.'
        )
        reason = ' '.join(str(error).split())[:300]
        raise ConfigError(
            f'TeacherModule: {source} can not be built ({type(error).__name__}: {reason}). {hint}'
        ) from error


def _of_the_hub(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that say which files are meant; the others are the network's."""
    names = ('revision', 'subfolder', 'token', 'cache_dir')
    return {name: arguments[name] for name in names if name in arguments}


def _read_json(library: Any, name: str, **of_the_hub: Any) -> dict[str, Any]:
    """What ``preprocessor_config.json`` of a folder or of the hub says; nothing where there is none."""
    try:
        path = library.utils.cached_file(name, 'preprocessor_config.json', **of_the_hub)
        with open(path, encoding='utf-8') as file:
            return json.load(file)
    except Exception:  # not there: the normalisation has to be stated
        return {}


def _pixels(values: Any) -> tuple[float, ...] | None:
    """Values of channels from 0 to 1 for pixels from 0 to 255."""
    return tuple(_PIXELS * float(value) for value in values) if values else None


def _side(value: Any) -> Size:
    """A size as the libraries write it: a number, a pair or a dict."""
    if isinstance(value, Mapping):
        value = (
            value.get('height') or value.get('shortest_edge'),
            value.get('width') or value.get('shortest_edge'),
        )
    if isinstance(value, int):
        return value, value
    pair = tuple(value or ())
    return (int(pair[0]), int(pair[1])) if len(pair) == 2 and all(pair) else None
