"""What an ONNX file says about itself, so that it can be used without mmpretrain and its config."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmkdlayer.pipelines import find_dataset, test_loader
from mmkdlayer.version import __version__

from .file_pipeline import array_shape, loads_files


def add_metadata(
    file: Path, cfg: Config, preprocessor: Mapping[str, Any], classes: Any, shape: Sequence[int]
) -> None:
    """Write into a file that takes normalised images how to use it.

    Its keys are ``classes`` (names, in the order of the logits), ``mean`` and ``std`` (of pixels from 0
    to 255), ``size`` (H, W), ``channels`` ('RGB', 'BGR', 'gray' or their number), ``output``, and the
    version of this package; classes, mean and std only where they are known. All but words are JSON.
    ``shape`` is (C, H, W) of the images of the test pipeline.
    """
    import onnx

    facts = dict(
        classes=classes,
        mean=preprocessor.get('mean'),
        std=preprocessor.get('std'),
        size=list(shape[1:]),
    )
    properties = {key: json.dumps(value) for key, value in facts.items() if value is not None}
    properties.update(
        channels=channel_order(cfg, preprocessor, shape[0]),
        output='logits',
        mmkdlayer_version=__version__,
    )
    graph = onnx.load(str(file))
    onnx.helper.set_model_props(graph, properties)
    onnx.save(graph, str(file))


def channel_order(cfg: Config, preprocessor: Mapping[str, Any], channels: int) -> str:
    """The order of the channels that the network takes: 'RGB', 'BGR', 'gray', or how many there are."""
    dataset = find_dataset(test_loader(cfg))
    from_files = dataset is not None and loads_files(dataset['pipeline'])
    if channels == 1:
        return 'gray'
    if channels != 3 or dataset is None or not (from_files or array_shape(dataset)):
        return str(channels)
    loaded = 'BGR' if from_files else 'RGB'  # mmcv reads files as BGR
    return loaded[::-1] if preprocessor.get('to_rgb') else loaded
