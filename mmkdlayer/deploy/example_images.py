"""Images to compare students on: those of the test data where it is there, and noise of their size."""

from __future__ import annotations

import copy
import inspect
import os
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmpretrain.registry import DATASETS
from PIL import Image
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.pipelines import find_dataset, test_loader

from .file_pipeline import ReadAsArray, dataset_class, file_pipeline

NOISE, REAL = 4, 8
#: Heights and widths of two files that a pipeline with a resize or crop makes one size of.
SIZES = ((131, 97), (211, 301))


class Examples(NamedTuple):
    """What students are compared on, after the pipeline and the data preprocessor."""

    images: Tensor  #: (N, C, H, W): noise, then test images where they can be had
    source: str  #: what they are, in words
    one_size: bool  #: False where images come out of the pipeline in several sizes


def find_examples(
    cfg: Config, preprocessor: nn.Module, network: nn.Module, size: tuple[int, int] | None = None
) -> Examples:
    """Images as the student gets them.

    Their size is that of test images, else what the test pipeline makes of files of two sizes, else
    ``size`` (H, W), else the ``image_shape`` of an exported student. Where no image tells how many
    channels there are, the first convolution of the student does.

    Raises:
        ConfigError: Nothing tells the size of the images, or another one than ``size``.
    """
    real, why = [], 'there are no test images'
    try:
        real = read_images(cfg, preprocessor)
    except Exception as error:  # the data of another machine; any data set, any backend
        why = f'no test images could be read: {type(error).__name__}'
    shapes = [tuple(image.shape[1:]) for image in real] or shapes_of_pipeline(cfg, preprocessor)
    one_size = len(set(shapes)) == 1
    if one_size or (real and size is None):
        shape = shapes[0]
    elif size is not None:
        shape = (first_channels(network), *size)
    else:
        shape = tuple(cfg.get('image_shape') or ())
    if not shape:
        raise ConfigError(
            'Nothing tells the size of the images that the student takes: the test images are not '
            'there, and the test pipeline neither resizes nor crops them to one size. Give the place of '
            'the data with --data-root ROOT, or the size with --input-size HEIGHT WIDTH.'
        )
    if size is not None and shape[1:] != tuple(size):
        raise ConfigError(
            f'--input-size says {size[0]}x{size[1]}, but the test pipeline gives images of '
            f'{shape[1]}x{shape[2]}. Leave the option out, or change the pipeline.'
        )
    noise = torch.randn(NOISE, *shape, generator=torch.Generator().manual_seed(0))
    same = [image for image in real if tuple(image.shape[1:]) == shape]
    source = f'and {len(same)} test images' if same else f'alone ({why})'
    return Examples(
        torch.cat([noise, *same]),
        f'{NOISE} images of noise {source}',
        one_size or size is not None or not shapes,
    )


def read_images(cfg: Config, preprocessor: nn.Module) -> list[Tensor]:
    """A few of the test images, at random but the same each time, each (1, C, H, W)."""
    dataset_cfg = copy.deepcopy(dict(find_dataset(test_loader(cfg)) or {}))
    kind = dataset_class(dataset_cfg)
    if kind and 'download' in inspect.signature(kind).parameters:
        dataset_cfg['download'] = False
    dataset = DATASETS.build(dataset_cfg)
    chosen = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))[:REAL]
    return [preprocess(dataset[index], preprocessor) for index in sorted(chosen.tolist())]


def shapes_of_pipeline(cfg: Config, preprocessor: nn.Module) -> list[tuple[int, ...]]:
    """The shapes (C, H, W) that the test pipeline makes of files; none where it does not run on them."""
    try:
        pipeline = file_pipeline(cfg)
        first, steps = pipeline[0], Compose(pipeline)
        sizes = [first.shape[:2]] if isinstance(first, ReadAsArray) else SIZES
        shapes = []
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, 'image.png')
            for height, width in sizes:
                Image.new('RGB', (width, height)).save(file)
                sample = steps(dict(img_path=file, gt_label=0, sample_idx=0))
                shapes.append(tuple(preprocess(sample, preprocessor).shape[1:]))
    except Exception:  # a step that needs what only the data set gives
        return []
    return shapes


def preprocess(sample: Mapping[str, Any], preprocessor: nn.Module) -> Tensor:
    """What a pipeline gives for one image, as the network takes it: (1, C, H, W)."""
    return preprocessor(pseudo_collate([sample]), False)['inputs']


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
