"""Makes every decision of a distillation model ready: found, described, reused, or fitted and stored."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mmkdlayer.pipelines import fitting_dataloader_cfg

from .feature_stream import FeatureStream
from .fit_decisions import FitOptions, fit_decisions
from .provenance import describe_provenance
from .reuse_decisions import reuse_decisions
from .supervision import assign_teachers, check_shapes, find_supervised_layers


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
    for layer, feature, scores in stream.shapes():
        check_shapes(layer, feature, scores)
    describe_provenance(stream, options.compared())
    unfitted = [layer.name for layer in layers if not layer.decision.is_fitted]
    paths = {name: Path(out_dir, f'{name}.safetensors') for name in unfitted}
    missing = reuse_decisions(layers, paths)
    fit_decisions(stream, missing, paths, out_dir, options)
    return paths
