"""Makes every decision of a distillation model ready: found, described, reused, or fitted and stored."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mmkdlayer.pipelines import fitting_dataloader_cfg

from .feature_stream import FeatureStream
from .fit_decisions import FitOptions, fit_decisions
from .provenance import describe_provenance
from .reuse_decisions import check_given, use_stored
from .supervision import assign_teachers, find_supervised_layers


def prepare_decisions(
    algorithm: Any, cfg: Any, out_dir: str | os.PathLike, options: FitOptions | None = None
) -> dict[str, Path]:
    """Make every decision of a distillation model ready: given, stored from before, or fitted now.

    Args:
        algorithm: A distillation algorithm of mmrazor, with any distiller, on its device.
        cfg: The training config: data loaders, ``model``.
        out_dir: Where fitted decisions are stored, ``<name>.safetensors`` each.
        options: How to fit; None for the defaults.

    Returns:
        The file of each decision that is stored in ``out_dir``.

    Raises:
        ConfigError: The config does not fit the models.
        DataError: The data do not suffice.
        DecisionFileError: A file that the config names does not fit.
        OSError: ``out_dir`` can't be written.
    """
    options = options or FitOptions()
    layers = find_supervised_layers(algorithm.distiller)
    if not layers:
        return {}
    assign_teachers(layers, algorithm, cfg.get('model') or {})
    stream = FeatureStream(algorithm, layers, fitting_dataloader_cfg(cfg), options.seed)
    stream.check_shapes()
    describe_provenance(stream, options.compared())
    paths, missing = {}, []
    for layer in layers:
        if layer.decision.is_fitted:
            check_given(layer)
            continue
        paths[layer.name] = Path(out_dir, f'{layer.name}.safetensors')
        if not use_stored(layer, paths[layer.name]):
            missing.append(layer)
    fit_decisions(stream, missing, paths, out_dir, options)
    return paths
