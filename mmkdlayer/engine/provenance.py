"""What a decision is fitted on: written into its file, compared before it is used again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from mmengine.config import ConfigDict
from torch import nn

from mmkdlayer.errors import DataError
from mmkdlayer.fitting.distributed import from_first_rank

from .feature_stream import FeatureStream
from .supervision import SupervisedLayer

#: What must be the same for a stored decision to be used again.
IDENTITY = ('teacher', 'layer', 'size', 'data', 'fitting')
DIGITS = 16


def describe_provenance(stream: FeatureStream, options: Mapping[str, Any]) -> None:
    """Say of each layer what its decision is fitted on, the same on all ranks.

    ``options`` are those that the result depends on. Labels are checked on the way.

    Raises:
        DataError: There are no images, or a label that is needed is missing or out of range.
    """

    def describe() -> list[dict[str, Any]]:
        teachers = {
            name: dict(
                weights=hash_model(teacher.model),
                checkpoint=str(teacher.checkpoint),
                config=ConfigDict(teacher.config).to_dict(),
            )
            for name, teacher in stream.teachers.items()
        }
        data = _describe_data(stream)
        return [
            dict(
                teacher=teachers[layer.teacher.name],
                layer=_describe_layer(stream, layer),
                size=list(layer.size),
                data=data,
                fitting=dict(options),
            )
            for layer in stream.layers
        ]

    for layer, provenance in zip(stream.layers, from_first_rank(describe)):
        layer.provenance = provenance


def _describe_data(stream: FeatureStream) -> dict[str, Any]:
    """The images, and what is done to them."""
    algorithm = stream.algorithm
    models = [algorithm.student, *stream.models]
    parts: list[Any] = [getattr(model, 'head', None) for model in models]
    parts += [layer.decision for layer in stream.layers]
    classes = [int(part.num_classes) for part in parts if getattr(part, 'num_classes', None)]
    data = describe_dataset(stream.dataset, min(classes, default=None), stream.needs_labels)
    preprocessor = describe_preprocessor(algorithm.data_preprocessor)
    return dict(data, transform=hash_json([stream.pipeline, preprocessor]))


def describe_dataset(
    dataset: Any, num_classes: int | None, needs_labels: bool = True
) -> dict[str, Any]:
    """What identifies the images of an mm-style data set, from its annotations alone.

    Labels are checked against ``num_classes``, C, if it is given. Where no labels are needed, images
    may have none or several, and only single ones are checked.

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
    if needed and labels.size != 1:
        raise DataError(
            f'{name} of the training set has {labels.size} labels ({label}), but a SubclassDecision is '
            'fitted on images of one class each. Use a CentroidDecision, which needs no labels.'
        )
    if num_classes is None or not needed and (labels.size != 1 or labels.dtype.kind not in 'iu'):
        return
    if labels.size != 1 or not 0 <= int(labels[0]) < num_classes:
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
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not tensor.is_floating_point():
            continue
        digest.update(f'{name} {tuple(tensor.shape)}'.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:DIGITS]


def _describe_layer(stream: FeatureStream, layer: SupervisedLayer) -> dict[str, Any]:
    """Which output of its teacher the features are."""
    record = layer.feature
    recorder = stream.algorithm.distiller.teacher_recorders.get_recorder(record['recorder'])
    indices = {key: record[key] for key in ('record_idx', 'data_idx') if record.get(key)}
    source = layer.teacher.source(recorder.source)
    return dict(source=source, recorder=type(recorder).__name__, **indices)


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """One phrase for each part of the identity that differs, naming both values."""
    phrases = []
    for key in IDENTITY:
        ours, theirs = expected.get(key), found.get(key)
        if key == 'teacher':
            # Weights and config in one: the same weights with other strides are another teacher.
            ours, theirs = (
                f'{teacher.get("weights")}-{hash_json(teacher.get("config"))}'
                for teacher in (ours or {}, theirs or {})
            )
        if ours != theirs:
            phrases.append(f'{key} is {theirs!r} in the file and {ours!r} now')
    return phrases


def hash_json(value: Any) -> str:
    """Hash of anything that JSON can hold; other things count by their text."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
