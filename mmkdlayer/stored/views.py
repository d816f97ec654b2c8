"""Views of images that can be drawn again: each has a seed of its own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmkdlayer.engine.prepare_decisions import unchanged_randomness
from mmkdlayer.errors import DataError


def view_seed(seed: int, index: int, view: int) -> int:
    """The seed of view ``view`` of image ``index``, below 2**64, of the base seed of a store."""
    text = f'{int(seed)} {int(index)} {int(view)}'.encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), 'little')


def render_view(dataset: Any, index: int, view: int, seed: int) -> dict[str, Any]:
    """An image as the data set's pipeline gives it under the seed of one of its views.

    Python's, numpy's and torch's generators (the CPU's) are as before afterwards, so in which process
    and in which order views are rendered changes nothing. ``dataset[index]`` runs the training pipeline.

    Returns:
        What the pipeline gives: ``inputs`` (C, H, W) and ``data_samples``.

    Raises:
        DataError: It gives no single image.
    """
    with seeded(view_seed(seed, index, view)):
        rendered = dataset[index]
    if not isinstance(rendered, dict) or not isinstance(rendered.get('inputs'), Tensor):
        found = sorted(rendered) if isinstance(rendered, dict) else type(rendered).__name__
        raise DataError(
            f'Image {index} of the training set: expected a pipeline that gives a dict with one tensor '
            f'as "inputs", but got {found}. Decisions can be stored for data sets whose pipeline ends '
            'with PackInputs, and gives one view of an image.'
        )
    return rendered


def hash_view(inputs: Tensor) -> int:
    """Hash of a rendered image by shape, type and content, below 2**64 (uint64)."""
    digest = blake2b(f'{tuple(inputs.shape)} {inputs.dtype}'.encode(), digest_size=8)
    digest.update(inputs.detach().cpu().contiguous().numpy().data)
    return int.from_bytes(digest.digest(), 'little')


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed python's, numpy's and torch's generators (the CPU's), and put them back at the end."""
    with unchanged_randomness(devices=()):
        random.seed(seed)
        np.random.seed([seed & 0xFFFFFFFF, seed >> 32])  # noqa: NPY002
        torch.default_generator.manual_seed(seed)
        yield
