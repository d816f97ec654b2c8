"""Finds the decisions of a distillation model, reuses what is fitted and fits the rest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, broadcast_object_list, is_main_process
from mmengine.logging import MMLogger
from tqdm import tqdm

from mmkdlayer.errors import ConfigError, DecisionFileError
from mmkdlayer.fitting import CentroidFitter, Fitter, SubclassFitter, run_fitters
from mmkdlayer.fitting.cache import CACHE_PREFIX
from mmkdlayer.models.decisions import (
    CentroidDecision,
    SubclassDecision,
    TeacherDecision,
    read_decision_file,
)
from mmkdlayer.pipelines import find_pipeline

from .feature_stream import FeatureStream, fitting_dataloader_cfg
from .fingerprints import describe_dataset, describe_preprocessor, hash_json
from .provenance import describe_layer, describe_teacher, differences, installed_versions
from .supervision import Supervision, check_shapes, find_supervisions


def check_given_file(supervision: Supervision, expected: Mapping[str, Any], feature: tuple) -> None:
    """A decision whose file the config names must have been fitted on this teacher.

    Raises:
        DecisionFileError: Channels or the teacher's fingerprint differ.
    """
    decision = supervision.decision
    origin = f'Decision file {decision.file}' if decision.file else f'Decision "{supervision.name}"'
    if decision.feature_channels != feature[0]:
        raise DecisionFileError(
            f'{origin} was fitted on features with {decision.feature_channels} channels, but the '
            f'recorded teacher feature has {feature[0]} (layer '
            f'"{expected["layer"]["source"]}"). Use the file of this teacher and layer, or fit again.'
        )
    found = decision.provenance
    fingerprint = (found.get('teacher') or {}).get('weights')
    if fingerprint is not None and fingerprint != expected['teacher']['weights']:
        raise DecisionFileError(
            f'{origin} was fitted on a teacher with the fingerprint {fingerprint}, but the teacher '
            f'here has {expected["teacher"]["weights"]}. Use the file of this teacher, or fit again '
            '(leave the file out of the config).'
        )
    others = [text for text in differences(expected, found) if not text.startswith('teacher ')]
    if found and others:
        MMLogger.get_current_instance().warning(
            f'{origin} is used as it is, though {"; ".join(others)}.'
        )


def reuse(supervision: Supervision, path: Path, expected: Mapping[str, Any]) -> bool:
    """Load a stored decision if it was fitted on the same things; say why where it was not."""
    logger = MMLogger.get_current_instance()
    if not path.exists():
        return False
    try:
        found = read_decision_file(path, tables=False).provenance
        reasons = differences(expected, found)
        if not reasons:
            supervision.decision.load(path)
            logger.info(f'Decision "{supervision.name}": reused {path}.')
            return True
        reason = '; '.join(reasons)
    except DecisionFileError as error:
        reason = str(error)
    logger.warning(
        f'Decision "{supervision.name}": {path} is not used, it is fitted again: {reason}'
    )
    return False


def make_fitter(
    supervision: Supervision, options: Mapping[str, Any], for_classes: Mapping[str, Any]
) -> Fitter:
    """The fitter of a decision.

    Args:
        supervision: The loss with the decision.
        options: Arguments that all fitters take.
        for_classes: Arguments of a fitter that knows classes: ``cache_dir``, ``class_names``.

    Raises:
        ConfigError: The decision is of a kind that can't be fitted.
    """
    decision = supervision.decision
    if isinstance(decision, CentroidDecision):
        return CentroidFitter(decision.num_centroids, temperature=decision.temperature, **options)
    if isinstance(decision, SubclassDecision):
        names = for_classes.get('class_names')
        if names is not None and len(names) != decision.num_classes:
            for_classes = dict(for_classes, class_names=None)
        return SubclassFitter(
            decision.num_classes,
            decision.num_subclasses,
            decision.num_components,
            **options,
            **for_classes,
        )
    raise ConfigError(
        f'Decision "{supervision.name}" is a {type(decision).__name__}, which has no fitter; give it a '
        'file.'
    )


def make_room(folder: str | os.PathLike) -> str:
    """Make a folder for projected features, without those of a fitting that was killed."""
    if os.environ.get('LOCAL_RANK', '0') == '0':
        Path(folder).mkdir(parents=True, exist_ok=True)
        for left in Path(folder).glob(f'{CACHE_PREFIX}*'):
            shutil.rmtree(left, ignore_errors=True)
    barrier()
    return os.fspath(folder)


def progress_bar(*, desc: str, total: int | None) -> Any:
    """A bar with rate and time left, on the main process alone."""
    return tqdm(desc=desc, total=total, disable=not is_main_process(), dynamic_ncols=True)


def prepare_decisions(
    algorithm: Any,
    cfg: Any,
    out_dir: str | os.PathLike,
    *,
    seed: int = 0,
    memory_budget: int | None = None,
    cache_dir: str | None = None,
) -> dict[str, Path]:
    """Make every decision of a distillation model ready: given, stored from before, or fitted now.

    Args:
        algorithm: A distillation algorithm (mmrazor's SingleTeacherDistill) on its device.
        cfg: The training config: data loaders, ``model``.
        out_dir: Where fitted decisions are stored, ``<name>.safetensors`` each.
        seed: Seed of the fitting.
        memory_budget: Bytes that samples of features may take; None for the fitters' default.
        cache_dir: Folder for the projected features during fitting; None for ``out_dir``.

    Returns:
        The file of each decision that is stored in ``out_dir``.

    Raises:
        ConfigError: The config does not fit the models.
        DataError: The data do not suffice.
        DecisionFileError: A file that the config names does not fit.
        OSError: ``out_dir`` can't be written.
    """
    logger = MMLogger.get_current_instance()
    distiller = algorithm.distiller
    supervisions = find_supervisions(distiller)
    if not supervisions:
        return {}
    loader_cfg = fitting_dataloader_cfg(cfg)
    stream = FeatureStream(algorithm, {s.name: s.feature for s in supervisions}, loader_cfg, seed)
    shapes = stream.shapes({s.name: s.scores for s in supervisions})
    for supervision in supervisions:
        check_shapes(supervision, *shapes[supervision.name])
    classes = {
        s.decision.num_classes for s in supervisions if isinstance(s.decision, SubclassDecision)
    }
    facts: list[Any] = [None, None]
    if is_main_process():
        data = describe_dataset(stream.dataset, min(classes, default=None))
        data['transform'] = hash_json(
            [
                find_pipeline(loader_cfg['dataset']),
                describe_preprocessor(algorithm.data_preprocessor),
            ]
        )
        facts = [describe_teacher(algorithm, cfg), data]
    broadcast_object_list(facts)
    expected: dict[str, dict[str, Any]] = {
        s.name: dict(
            teacher=facts[0],
            layer=describe_layer(distiller, s.feature),
            size=list(shapes[s.name][1][1:]),
            data=facts[1],
            seed=seed,
        )
        for s in supervisions
    }
    paths, missing = {}, {}
    for supervision in supervisions:
        name, decision = supervision.name, supervision.decision
        if decision.is_fitted:
            check_given_file(supervision, expected[name], shapes[name][0])
            continue
        paths[name] = Path(out_dir) / f'{name}.safetensors'
        if not reuse(supervision, paths[name], expected[name]):
            missing[name] = supervision
    if not missing:
        return paths
    folder = make_room(cache_dir or out_dir)
    options: dict[str, Any] = dict(progress=progress_bar, seed=seed)
    if memory_budget is not None:
        options['memory_budget'] = memory_budget
    class_names = getattr(stream.dataset, 'metainfo', {}).get('classes')
    fitters = {
        name: make_fitter(
            supervision,
            dict(options, size=tuple(expected[name]['size'])),
            dict(cache_dir=folder, class_names=class_names),
        )
        for name, supervision in missing.items()
    }

    def store(name: str, fitted: TeacherDecision) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec='seconds')
        fitted.provenance = dict(expected[name], versions=installed_versions(), date=now)
        if is_main_process():
            fitted.save(paths[name])
            logger.info(f'Decision "{name}": fitted and stored in {paths[name]}.')
        missing[name].decision.take(fitted)

    logger.info(
        f'Fitting the decisions {sorted(missing)} on {facts[1]["images"]} images with the test-time '
        'transform.'
    )
    stream.records = {name: s.feature for name, s in missing.items()}
    run_fitters(stream, fitters, progress=progress_bar, on_result=store)
    return paths
