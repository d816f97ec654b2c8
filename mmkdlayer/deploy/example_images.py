"""Images to compare students on: those of the test data where it is there, and noise of their size."""

from __future__ import annotations

import copy
import inspect
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmpretrain.registry import DATASETS
from PIL import Image
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.type_names import type_name

NOISE, REAL = 4, 8
#: Shapes of what data sets give that hold arrays, of one size, in place of files.
ARRAYS = dict(CIFAR10=(32, 32, 3), CIFAR100=(32, 32, 3), MNIST=(28, 28))
#: Two files that a pipeline with a resize or crop makes one size of.
FILES = ((131, 97, 3), (211, 301, 3))
#: Steps that need no file; so those of data sets that hold arrays.
LOADING = 'LoadImage'


class Examples(NamedTuple):
    """What students are compared on, after the pipeline and the data preprocessor.

    Attributes:
        noise: (N, C, H, W).
        real: Test images (N, C, H, W); None where they can't be had.
        why: Then, the reason.
        one_size: False where images come out of the pipeline in several sizes.
    """

    noise: Tensor
    real: Tensor | None
    why: str = ''
    one_size: bool = True

    @property
    def batches(self) -> list[Tensor]:
        """All of them, each kind a batch."""
        return [self.noise, *([] if self.real is None else [self.real])]

    def __str__(self) -> str:
        text = f'{len(self.noise)} images of noise'
        if self.real is not None:
            return f'{text} and {len(self.real)} test images'
        return f'{text} alone ({self.why})'


def find_examples(
    cfg: Config, preprocessor: nn.Module, network: nn.Module, size: tuple[int, int] | None = None
) -> Examples:
    """Images as the student gets them.

    Args:
        cfg: A config with ``test_dataloader`` or ``val_dataloader``. Where their images are not there,
            and not made of one size either, the ``image_shape`` of an exported student tells it, or the
            pipeline of ``train_dataloader``.
        preprocessor: The student's.
        network: The student; its first convolution says how many channels, where no image does.
        size: Height and width, where nothing else tells them.

    Raises:
        ConfigError: Nothing tells the size of the images, or another one than ``size``.
    """
    dataset_cfg = find_dataset(test_loader(cfg))
    real, why = [], 'the config has no test_dataloader with a pipeline'
    if dataset_cfg is not None:
        try:
            real = read_images(dataset_cfg, preprocessor)
        except Exception as error:  # the data of another machine; any data set, any backend
            why = f'no test images could be read: {type(error).__name__}'
    shapes = {tuple(image.shape[1:]) for image in real}
    if not shapes and dataset_cfg is not None:
        shapes = shapes_of_pipeline(dataset_cfg, preprocessor)
    found = tuple(real[0].shape[1:]) if real else _only(shapes) or cfg.get('image_shape')
    if found is None and (trained_on := find_dataset(cfg.get('train_dataloader'))) is not None:
        found = _only(shapes_of_pipeline(trained_on, preprocessor))
    if found is None and size is not None:
        found, shapes = (first_channels(network), *size), set()
    if found is None:
        raise ConfigError(
            'Nothing tells the size of the images that the student takes: the test images are not '
            'there, and the test pipeline neither resizes nor crops them to one size. Give the place of '
            'the data with --data-root ROOT, or the size with --input-size HEIGHT WIDTH.'
        )
    if size is not None and tuple(found[1:]) != tuple(size):
        raise ConfigError(
            f'--input-size says {size[0]}x{size[1]}, but the test pipeline gives images of '
            f'{found[1]}x{found[2]}. Leave the option out, or change the pipeline.'
        )
    noise = torch.randn(NOISE, *found, generator=torch.Generator().manual_seed(0))
    same = [image for image in real if tuple(image.shape[1:]) == tuple(found)]
    return Examples(noise, torch.cat(same) if same else None, why, len(shapes) <= 1)


def _only(shapes: set[tuple[int, ...]]) -> tuple[int, ...] | None:
    return next(iter(shapes)) if len(shapes) == 1 else None


def test_loader(cfg: Any) -> Any:
    """The config of the data loader that a student is tested with: of ``test``, else of ``val``."""
    return cfg.get('test_dataloader') or cfg.get('val_dataloader')


def find_dataset(value: Any) -> Mapping[str, Any] | None:
    """The first data set with a ``pipeline`` in the config of a data loader, inside any wrapper."""
    if isinstance(value, Mapping):
        if 'pipeline' in value:
            return value
        value = list(value.values())
    for item in value if isinstance(value, (list, tuple)) else ():
        found = find_dataset(item)
        if found is not None:
            return found
    return None


def read_images(dataset_cfg: Mapping[str, Any], preprocessor: nn.Module) -> list[Tensor]:
    """A few images of a data set, at random but the same each time, each (1, C, H, W)."""
    offline = copy.deepcopy(dict(dataset_cfg))
    dataset_class = dataset_class_of(offline)
    if dataset_class and 'download' in inspect.signature(dataset_class).parameters:
        offline['download'] = False
    dataset = DATASETS.build(offline)
    chosen = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))[:REAL]
    return [preprocess(dataset[index], preprocessor) for index in sorted(chosen.tolist())]


def preprocess(sample: Mapping[str, Any], preprocessor: nn.Module) -> Tensor:
    """What a pipeline gives for one image, as the network takes it: (1, C, H, W)."""
    return preprocessor(pseudo_collate([sample]), False)['inputs']


def dataset_class_of(dataset_cfg: Mapping[str, Any]) -> type | None:
    """The class of a data set's config, if it is known."""
    kind = dataset_cfg.get('type')
    return kind if inspect.isclass(kind) or kind is None else DATASETS.get(kind)


def array_shape(dataset_cfg: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The shape of the arrays that a data set gives its pipeline; None where it is not known."""
    names = [base.__name__ for base in getattr(dataset_class_of(dataset_cfg), '__mro__', ())]
    return next((ARRAYS[name] for name in names if name in ARRAYS), None)


def loads_files(pipeline: Any) -> bool:
    """Whether a pipeline begins with a file, not with an array that the data set holds."""
    return any(type_name(step.get('type')).startswith(LOADING) for step in pipeline)


def shapes_of_pipeline(
    dataset_cfg: Mapping[str, Any], preprocessor: nn.Module
) -> set[tuple[int, ...]]:
    """The shapes (C, H, W) that a pipeline makes of images of several sizes.

    The pipeline itself is run: none where it does not run without the data set.
    """
    pipeline = without_backends(dataset_cfg['pipeline'])
    array = array_shape(dataset_cfg)
    shapes = FILES if array is None or loads_files(pipeline) else (array,)
    found = set()
    try:
        steps = Compose(pipeline)
        with tempfile.TemporaryDirectory() as folder:
            for number, shape in enumerate(shapes):
                pixels = np.zeros(shape, np.uint8)
                path = Path(folder) / f'{number}.png'
                Image.fromarray(pixels).save(path)
                sample = dict(img_path=str(path), gt_label=0, sample_idx=0)
                if not loads_files(pipeline):
                    sample.update(img=pixels, img_shape=shape[:2], ori_shape=shape[:2])
                found.add(tuple(preprocess(steps(sample), preprocessor).shape[1:]))
    except Exception:  # a step that needs what only the data set gives
        return set()
    return found


def without_backends(pipeline: Any) -> Any:
    """A copy of a pipeline whose steps read local files."""
    steps = copy.deepcopy(list(pipeline))
    for step in steps:
        for key in ('backend_args', 'file_client_args'):
            step.pop(key, None)
    return steps


def first_channels(network: nn.Module) -> int:
    """Channels of the images that a network takes: those of its first convolution.

    Raises:
        ConfigError: It has none.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.LazyConv2d)):
            return module.in_channels
    raise ConfigError(
        f'{type(network).__name__} has no convolution that tells how many channels its images have. '
        'Give the place of test images with --data-root ROOT.'
    )
