"""Makes every decision of a distillation model ready: found, described, reused, or fitted and stored."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.logging import MMLogger

from mmkdlayer.atomic import remove_leftovers
from mmkdlayer.errors import DecisionFileError
from mmkdlayer.fitting.distributed import errors_on_all_ranks, from_first_rank
from mmkdlayer.models.decisions import read_decision_file
from mmkdlayer.pipelines import fitting_dataloader_cfg

from .algorithm_checks import check_algorithm
from .decision_quality import report_quality
from .feature_stream import FeatureStream
from .fit_decisions import FitOptions, fit_decisions
from .fitting_folder import folder_prefix, remove_folders
from .locks import folder_lock
from .provenance import describe_provenance, differences, teacher_weights
from .supervision import SupervisedLayer, assign_teachers, find_supervised_layers
from .teacher_views import connect_views


@contextmanager
def unchanged_randomness(devices: Sequence[int] | None = None) -> Iterator[None]:
    """Leave the random numbers that follow as they are: a training is the same with stored decisions.

    ``devices`` are the GPUs whose generators are meant too; None for the current one.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    if devices is None:
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@unchanged_randomness()
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
    connect_views(algorithm, cfg)
    check_algorithm(algorithm, cfg.get('model') or {})
    layers = find_supervised_layers(getattr(algorithm, 'distiller', None))
    if not layers:
        return {}
    assign_teachers(layers, algorithm, cfg.get('model') or {})
    with errors_on_all_ranks():
        stream = FeatureStream(algorithm, layers, fitting_dataloader_cfg(cfg), options.seed)
        stream.check_shapes()
    describe_provenance(stream, options.compared())
    unfitted = [layer for layer in layers if not layer.decision.is_fitted]
    for layer in layers:
        if layer not in unfitted:
            _check_given(layer)
    paths = {layer.name: Path(out_dir, f'{layer.name}.safetensors') for layer in unfitted}
    if unfitted:
        cache_dir = options.cache_dir or out_dir
        with ExitStack() as locks:
            locks.enter_context(folder_lock(out_dir, 'fitting'))
            if options.cache_dir:  # out_dir may be on a disk of this machine, and cache_dir shared
                locks.enter_context(folder_lock(cache_dir, folder_prefix(out_dir)))
            if is_main_process():
                remove_leftovers(out_dir)
            missing = [layer for layer in unfitted if not _use_stored(layer, paths[layer.name])]
            if missing:
                fit_decisions(stream, missing, paths, out_dir, options)
            else:  # a fitting may have been killed after it had stored its last decision
                remove_folders(cache_dir, out_dir)
    report_quality(algorithm, layers, cfg, options.quality_images)
    return paths


def _check_given(layer: SupervisedLayer) -> None:
    """A decision whose file the config names must have been fitted on this teacher."""
    decision, logger = layer.decision, MMLogger.get_current_instance()
    origin = f'Decision file {decision.file}' if decision.file else f'Decision "{layer.name}"'
    logger.info(f'{origin} is used for "{layer.name}".')
    found = decision.provenance
    fingerprint, own = teacher_weights(found), teacher_weights(layer.provenance)
    if fingerprint not in (None, own):
        raise DecisionFileError(
            f'{origin} was fitted on a teacher with the fingerprint {fingerprint}, but the teacher '
            f'here has {own}. Use the file of this teacher, or fit again (leave the file out of the '
            'config).'
        )
    others = differences(dict(layer.provenance, teacher=found.get('teacher')), found)
    if found and others:
        logger.warning(f'{origin} is used as it is, though {"; ".join(others)}.')


def _use_stored(layer: SupervisedLayer, path: Path) -> bool:
    """Whether a decision that was stored before fits, and is used, on all ranks.

    The folder may be on a disk that only the main process has: the others get the decision from it.
    """
    found = from_first_rank(lambda: layer.decision if _load_stored(layer, path) else None)
    if found is not None and found is not layer.decision:
        layer.decision.copy_from(found)
    return found is not None


def _load_stored(layer: SupervisedLayer, path: Path) -> bool:
    """Load a stored decision if it was fitted on the same things; say why where it was not."""
    logger = MMLogger.get_current_instance()
    if not path.exists():
        return False
    try:
        found = read_decision_file(path)
        reason = '; '.join(differences(layer.provenance, found.provenance))
        if not reason:
            layer.decision.load(found)
            logger.info(f'Decision "{layer.name}": reused {path}.')
            return True
    except DecisionFileError as error:
        reason = str(error)
    logger.warning(f'Decision "{layer.name}": {path} is not used, it is fitted again: {reason}')
    return False
