"""Hashes of what a decision is fitted on: models, images, and what is done to them.

None depends on the place of the data: a copy on another machine has the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import numpy as np
from mmengine.fileio import get
from torch import Tensor, nn

from mmkdlayer.errors import DataError

DIGITS = 16
#: Of so many images the sizes of the files are compared, and of so many the beginning of the content:
#: evenly spaced ones, so that a data set of any size is looked at in seconds, on a network too.
SIZES, CONTENTS = 10_000, 64
_CONTENT_BYTES = 1 << 20

#: Size and time of the last change of a file; None where it is not a file of this machine.
FileState = Optional[tuple[int, int]]


def describe_dataset(
    dataset: Any,
    num_classes: int | None,
    needs_labels: bool = True,
    backend_args: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What identifies the images of an mm-style data set.

    Labels are checked against ``num_classes``, C, if it is given. Where no labels are needed, images
    may have none or several, and only single ones are checked. ``backend_args`` say how the files are
    read, as in mmengine.

    Returns:
        ``images``, their number; ``files``, a hash of the names below the folder that they share (or
        of the pixels) and of the labels of all; ``content``, a hash of the sizes of :data:`SIZES`
        files and of the first MiB of :data:`CONTENTS` of them.

    Raises:
        DataError: There are no images, or a label is missing or out of range.
    """
    count = len(dataset)
    if count == 0:
        raise DataError(
            'The training set has no images. Check its data_root, data_prefix and ann_file.'
        )
    files = _hash_names(dataset, num_classes, needs_labels)
    return dict(images=count, files=files, content=_hash_content(dataset, backend_args))


def _hash_names(dataset: Any, num_classes: int | None, needs_labels: bool) -> str:
    digest, folders = hashlib.sha256(), dict[str, int]()
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        _check_label(index, info, num_classes, needs_labels)
        if 'img_path' in info:
            folder, name = os.path.split(str(info['img_path']))
            number = folders.setdefault(folder, len(folders))
            digest.update(f'{number}/{name}'.encode(errors='surrogateescape'))
        elif 'img' in info:
            digest.update(np.ascontiguousarray(info['img']).tobytes())
        digest.update(f' {info.get("gt_label")}\n'.encode())
    places = [os.path.abspath(folder) for folder in folders]
    shared = os.path.commonpath(places) if places else ''
    for place in places:
        digest.update(f'{os.path.relpath(place, shared)}\n'.encode(errors='surrogateescape'))
    return digest.hexdigest()[:DIGITS]


def _hash_content(dataset: Any, backend_args: Mapping[str, Any] | None) -> str:
    """Hash of sizes, and of some contents; of nothing for images that are not in files."""
    digest = hashlib.sha256()
    for state in file_states(dataset).values():
        digest.update(f'{state and state[0]}\n'.encode())
    for path in sampled_paths(dataset, CONTENTS):
        digest.update(hashlib.sha256(_beginning(path, backend_args)).digest())
    return digest.hexdigest()[:DIGITS]


def file_states(dataset: Any) -> dict[str, FileState]:
    """Sizes and times of a data set's image files, of :data:`SIZES` of them at most."""
    found: dict[str, FileState] = {}
    for path in sampled_paths(dataset, SIZES):
        try:
            stat = os.stat(path)
        except (OSError, ValueError):  # of another backend, or missing: reading it will tell
            found[path] = None
        else:
            found[path] = stat.st_size, stat.st_mtime_ns
    return found


def sampled_paths(dataset: Any, most: int) -> list[str]:
    """The paths of some evenly spaced images, all of them if there are no more than ``most``."""
    step = -(-len(dataset) // most)
    infos = (dataset.get_data_info(index) for index in range(0, len(dataset), step))
    return [str(info['img_path']) for info in infos if 'img_path' in info]


def _beginning(path: str, backend_args: Mapping[str, Any] | None) -> bytes:
    try:
        if os.path.isfile(path):
            with open(path, 'rb') as file:
                return file.read(_CONTENT_BYTES)
        return get(path, backend_args=dict(backend_args or {}) or None)[:_CONTENT_BYTES]
    except Exception:  # the backends have many; reading the image will tell
        return b''


def _check_label(index: int, info: dict, num_classes: int | None, needed: bool) -> None:
    label = info.get('gt_label')
    name = info.get('img_path', f'image {index}')
    labels = np.atleast_1d(np.asarray([] if label is None else label))
    if labels.size != 1 and needed:
        found = 'no gt_label' if label is None else f'{labels.size} labels ({label})'
        raise DataError(
            f'{name} of the training set has {found}, but a SubclassDecision is fitted on images of one '
            'class each. Use a CentroidDecision, which needs no labels.'
        )
    if labels.size != 1 or num_classes is None:
        return
    if labels.dtype.kind not in 'iu':
        raise DataError(
            f'The label of {name} is {label!r}, but expected the index of a class, an integer from 0 '
            f'to {num_classes - 1}. Correct the annotations (ann_file).'
        )
    if not 0 <= int(labels.flat[0]) < num_classes:
        raise DataError(
            f'The label of {name} is {label}, but the models have num_classes={num_classes}, so '
            f'labels must be 0 to {num_classes - 1}. Set num_classes of the heads and decisions to '
            'that of the data set.'
        )


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


def hash_model(model: nn.Module) -> str:
    """Hash of a model's floating-point weights and buffers, by name, shape and content.

    Counters (``num_batches_tracked``) do not change what a model computes, so they do not count.
    """
    state = model.state_dict()
    return hash_tensors({name: state[name] for name in state if state[name].is_floating_point()})


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Hash of tensors by name, shape and content (as float32 where they are of floats)."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        if tensor.is_sparse:
            tensor = tensor.coalesce()
            digest.update(tensor.indices().cpu().contiguous().numpy().tobytes())
            tensor = tensor.values()
        digest.update(f'{name} {tuple(tensor.shape)}'.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:DIGITS]


def hash_json(value: Any) -> str:
    """Hash of anything that JSON can hold; other things count by their text."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def without_paths(config: Any) -> Any:
    """A config without what says only where something is: weights that are loaded, paths, backends.

    The weights themselves are compared. Of a whole path its last part is kept.
    """
    if isinstance(config, Mapping):
        return {
            key: without_paths(value)
            for key, value in config.items()
            if key not in ('init_cfg', 'pretrained', 'backend_args', 'file_client_args')
        }
    if isinstance(config, (list, tuple)):
        return [without_paths(value) for value in config]
    if isinstance(config, (str, os.PathLike)) and os.path.isabs(config):
        return Path(config).name
    return config
