"""What an ONNX file says about itself, so that it can be used without mmpretrain and its config."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config

from mmkdlayer.pipelines import find_dataset, test_loader
from mmkdlayer.version import __version__

from .file_pipeline import array_shape, loads_files


def file_metadata(
    cfg: Config, student_cfg: Config, meta: Mapping[str, Any], shape: Sequence[int]
) -> dict[str, str]:
    """The metadata of a file that takes normalised images; values but plain words are JSON.

    Args:
        cfg: The training config.
        student_cfg: The exported one.
        meta: The meta data of the exported weights.
        shape: C, H and W of the images of the test pipeline.

    Returns:
        ``classes`` (names, in the order of the logits), ``mean`` and ``std`` (of pixels from 0 to 255),
        ``size`` (H, W), ``channels`` ('RGB', 'BGR', 'gray' or their number), ``output``, and the version
        of this package; classes, mean and std only where they are known.
    """
    preprocessor = student_cfg.model.get('data_preprocessor') or {}
    classes = (meta.get('dataset_meta') or {}).get('classes')
    facts = dict(
        classes=list(classes) if isinstance(classes, (list, tuple)) else None,
        mean=preprocessor.get('mean'),
        std=preprocessor.get('std'),
        size=list(shape[1:]),
    )
    return {
        **{key: json.dumps(value) for key, value in facts.items() if value is not None},
        'channels': channel_order(cfg, preprocessor, shape[0]),
        'output': 'logits',
        'mmkdlayer_version': __version__,
    }


def channel_order(cfg: Config, preprocessor: Mapping[str, Any], channels: int) -> str:
    """The order of the channels that the network takes: 'RGB', 'BGR', 'gray', or how many there are."""
    dataset = find_dataset(test_loader(cfg))
    if channels == 1:
        return 'gray'
    if channels != 3 or dataset is None:
        return str(channels)
    if loads_files(dataset['pipeline']):  # mmcv reads files as BGR
        loaded = 'BGR'
    elif array_shape(dataset) is not None:
        loaded = 'RGB'
    else:
        return str(channels)
    return loaded[::-1] if preprocessor.get('to_rgb') else loaded
