"""Short hashes that say whether a decision was fitted on this teacher and these data."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import numpy as np
from torch import nn

from mmkdlayer.errors import DataError

DIGITS = 16


def hash_json(value: Any) -> str:
    """Hash of anything that JSON can hold; other things count by their text."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def hash_model(model: nn.Module) -> str:
    """Hash of a model's floating-point weights and buffers, by name, shape and content.

    Counters (``num_batches_tracked``) do not change what a model computes, so they do not count.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not tensor.is_floating_point():
            continue
        digest.update(f'{name} {tuple(tensor.shape)}'.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:DIGITS]


def describe_preprocessor(preprocessor: nn.Module) -> dict[str, Any]:
    """What a data preprocessor does to an image: its options and its constants (mean, std)."""
    settings = {
        name: value
        for name, value in vars(preprocessor).items()
        if isinstance(value, (bool, int, float, str))
        and not name.startswith('_')
        and name != 'training'
    }
    constants = {name: buffer.tolist() for name, buffer in preprocessor.named_buffers()}
    return dict(type=type(preprocessor).__name__, settings=settings, constants=constants)


def describe_dataset(
    dataset: Any, num_classes: int | None, needs_labels: bool = True
) -> dict[str, Any]:
    """What identifies the images of a data set, from its annotations alone.

    Args:
        dataset: An mm-style data set: ``len`` and ``get_data_info``.
        num_classes: C, to check the labels against; None for no check.
        needs_labels: Whether each image must have one label. Without, images may have none or
            several, and only single ones are checked.

    Returns:
        Number of images and a hash of their paths (below the data root) or pixels, and labels.

    Raises:
        DataError: There are no images, or a label is missing or out of range.
    """
    count = len(dataset)
    if count == 0:
        raise DataError(
            'The training set has no images. Check its data_root, data_prefix and ann_file.'
        )
    digest = hashlib.sha256()
    root = os.path.join(getattr(dataset, 'data_root', '') or '', '')
    for index in range(count):
        info = dataset.get_data_info(index)
        _check_label(index, info, num_classes, needs_labels)
        if 'img_path' in info:
            path = str(info['img_path'])
            digest.update(path[len(root) :].encode() if path.startswith(root) else path.encode())
        elif 'img' in info:
            digest.update(np.ascontiguousarray(info['img']).tobytes())
        digest.update(f' {info.get("gt_label")}\n'.encode())
    return dict(images=count, files=digest.hexdigest()[:DIGITS])


def _check_label(index: int, info: dict, num_classes: int | None, needed: bool) -> None:
    label = info.get('gt_label')
    name = info.get('img_path', f'image {index}')
    if label is None and needed:
        raise DataError(
            f'{name} of the training set has no gt_label. Fitting a SubclassDecision needs the label '
            'of every training image; a CentroidDecision needs none.'
        )
    labels = np.atleast_1d(np.asarray(label))
    if num_classes is None or not needed and (labels.size != 1 or labels.dtype.kind not in 'iu'):
        return
    if labels.size != 1 or not 0 <= int(labels[0]) < num_classes:
        raise DataError(
            f'The label of {name} is {label}, but the models have num_classes={num_classes}, so '
            f'labels must be 0 to {num_classes - 1}. Set num_classes of the heads and decisions to '
            'that of the data set.'
        )
