"""Finds the decisions of a distillation model, reuses what is fitted and fits the rest."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, get_rank, is_main_process
from mmengine.logging import MMLogger
from tqdm import tqdm

from mmkdlayer.errors import ConfigError, DecisionFileError
from mmkdlayer.fitting import CentroidFitter, Fitter, SubclassFitter, run_fitters
from mmkdlayer.fitting.checkpoint import FittingCheckpoint
from mmkdlayer.fitting.distributed import errors_on_all_ranks
from mmkdlayer.models.decisions import (
    CentroidDecision,
    SubclassDecision,
    TeacherDecision,
    read_decision_file,
)

from .feature_stream import FeatureStream, fitting_dataloader_cfg
from .fingerprints import describe_dataset, describe_preprocessor, hash_json
from .fitting_folder import fitting_folder, fitting_identity, remove_folders
from .provenance import describe_layer, describe_teacher, differences, installed_versions
from .supervision import Supervision, check_shapes, check_teachers, find_supervisions
from .teachers import Teacher, teacher_of


@dataclass(frozen=True)
class FitOptions:
    """How decisions are fitted; stored with them, and compared before they are used again.

    Attributes:
        seed: Seed of the samples and of k-means.
        memory_budget: Bytes that sampled features may take on each rank. All are used where they fit.
        iterations: Steps of the k-means of the centroids, at most.
        streaming_passes: More steps of it over all features, each with a pass of the teacher.
    """

    seed: int = 0
    memory_budget: int = 1 << 30
    iterations: int = 25
    streaming_passes: int = 0


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
    MMLogger.get_current_instance().info(f'{origin} is used for "{supervision.name}".')
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


def load_stored(supervision: Supervision, path: Path, expected: Mapping[str, Any]) -> bool:
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


def share_stored(supervision: Supervision, path: Path, expected: Mapping[str, Any]) -> bool:
    """Use a stored decision on all ranks or on none: the main process looks, the others get it.

    The folder may be on a disk that only the main process has.
    """
    found: list[Any] = [None]
    with errors_on_all_ranks():
        if is_main_process() and load_stored(supervision, path, expected):
            found = [supervision.decision]
    broadcast_object_list(found)
    if found[0] is not None and not is_main_process():
        supervision.decision.copy_from(found[0])
    return found[0] is not None


def make_fitter(
    supervision: Supervision,
    expected: Mapping[str, Any],
    options: FitOptions,
    cache_dir: str,
    class_names: Sequence[str] | None,
) -> Fitter:
    """The fitter of a decision.

    Raises:
        ConfigError: The decision is of a kind that can't be fitted.
    """
    decision = supervision.decision
    shared: dict[str, Any] = dict(
        size=tuple(expected['size']),
        seed=options.seed,
        memory_budget=options.memory_budget,
        progress=progress_bar,
    )
    if isinstance(decision, CentroidDecision):
        return CentroidFitter(
            decision.num_centroids,
            temperature=decision.temperature,
            iterations=options.iterations,
            streaming_passes=options.streaming_passes,
            **shared,
        )
    if isinstance(decision, SubclassDecision):
        known = class_names is not None and len(class_names) == decision.num_classes
        return SubclassFitter(
            decision.num_classes,
            decision.num_subclasses,
            decision.num_components,
            cache_dir=cache_dir,
            cache_name=f'{supervision.name}-rank{get_rank()}.bin',
            class_names=class_names if known else None,
            **shared,
        )
    raise ConfigError(
        f'Decision "{supervision.name}" is a {type(decision).__name__}, which has no fitter; give it a '
        'file.'
    )


def progress_bar(*, desc: str, total: int | None) -> Any:
    """A bar with rate and time left, on the main process alone."""
    # In a log file each update is a line: one a minute will do.
    interval = 0.1 if sys.stderr.isatty() else 60
    return tqdm(
        desc=desc,
        total=total,
        disable=not is_main_process(),
        dynamic_ncols=True,
        mininterval=interval,
        maxinterval=interval,
    )


def describe_origin(
    algorithm: Any,
    stream: FeatureStream,
    teachers: Sequence[Teacher],
    supervisions: Sequence[Supervision],
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The teachers by name and the data, the same on all ranks; labels are checked on the way.

    Raises:
        DataError: There are no images, or a label is out of range.
    """
    classes = [getattr(s.decision, 'num_classes', None) for s in supervisions]
    classes += [
        getattr(getattr(model, 'head', None), 'num_classes', None)
        for model in (algorithm.student, *(teacher.model for teacher in teachers))
    ]
    facts: list[Any] = [None, None]
    with errors_on_all_ranks():
        if is_main_process():
            least = min((int(number) for number in classes if number), default=None)
            data = describe_dataset(stream.dataset, least)
            data['transform'] = hash_json(
                [stream.pipeline, describe_preprocessor(algorithm.data_preprocessor)]
            )
            facts = [{teacher.name: describe_teacher(teacher) for teacher in teachers}, data]
    broadcast_object_list(facts)
    return facts[0], facts[1]


def prepare_decisions(
    algorithm: Any,
    cfg: Any,
    out_dir: str | os.PathLike,
    options: FitOptions | None = None,
    cache_dir: str | None = None,
    checkpoint_interval: float = 300.0,
) -> dict[str, Path]:
    """Make every decision of a distillation model ready: given, stored from before, or fitted now.

    Args:
        algorithm: A distillation algorithm of mmrazor, with any distiller, on its device.
        cfg: The training config: data loaders, ``model``.
        out_dir: Where fitted decisions are stored, ``<name>.safetensors`` each.
        options: How to fit; None for the defaults.
        cache_dir: Folder for projected features and for the state of an interrupted fitting; None
            for ``out_dir``. May be on a disk of each machine's own.
        checkpoint_interval: Seconds between two saves of the state within a pass of the teacher.

    Returns:
        The file of each decision that is stored in ``out_dir``.

    Raises:
        ConfigError: The config does not fit the models.
        DataError: The data do not suffice.
        DecisionFileError: A file that the config names does not fit.
        OSError: ``out_dir`` can't be written.
    """
    options = options or FitOptions()
    distiller = algorithm.distiller
    supervisions = find_supervisions(distiller)
    if not supervisions:
        return {}
    teachers = check_teachers(algorithm, cfg, supervisions)
    loader_cfg = fitting_dataloader_cfg(cfg)
    records = {s.name: s.feature for s in supervisions}
    stream = FeatureStream(algorithm, records, loader_cfg, options.seed)
    shapes = stream.shapes({s.name: s.scores for s in supervisions})
    for supervision in supervisions:
        check_shapes(supervision, *shapes[supervision.name])
    used = {
        s.name: teacher_of(
            distiller.teacher_recorders.get_recorder(s.feature['recorder']).source, teachers
        )
        for s in supervisions
    }
    involved = {teacher.name: teacher for teacher in used.values()}
    described, data = describe_origin(algorithm, stream, list(involved.values()), supervisions)
    paths, missing, expected = {}, {}, {}
    settings = {s.name: s.decision.fit_options() for s in supervisions}
    for supervision in supervisions:
        name = supervision.name
        feature, scores = shapes[name]
        expected[name] = dict(
            teacher=described[used[name].name],
            layer=describe_layer(distiller, supervision.feature, used[name]),
            size=list(scores[1:]),
            data=data,
            fitting=asdict(options),
        )
        if supervision.decision.is_fitted:
            check_given_file(supervision, expected[name], feature)
            continue
        paths[name] = Path(out_dir) / f'{name}.safetensors'
        if not share_stored(supervision, paths[name], expected[name]):
            missing[name] = supervision
    if missing:
        stream.records = {name: records[name] for name in missing}
        identity = fitting_identity(expected, settings, stream)
        with fitting_folder(cache_dir or out_dir, out_dir, identity) as folder:
            checkpoint = FittingCheckpoint(folder, identity, checkpoint_interval)
            fit(stream, missing, expected, paths, options, checkpoint)
    elif paths:
        # A fitting that was killed after it had stored its last decision.
        remove_folders(cache_dir or out_dir, out_dir)
    return paths


def fit(
    stream: FeatureStream,
    missing: Mapping[str, Supervision],
    expected: Mapping[str, Mapping[str, Any]],
    paths: Mapping[str, Path],
    options: FitOptions,
    checkpoint: FittingCheckpoint,
) -> None:
    """Fit decisions from the same passes over the teacher; each is stored as soon as it is ready."""
    logger = MMLogger.get_current_instance()
    class_names = getattr(stream.dataset, 'metainfo', {}).get('classes')
    folder = str(checkpoint.folder)
    with errors_on_all_ranks():
        fitters = {
            name: make_fitter(supervision, expected[name], options, folder, class_names)
            for name, supervision in missing.items()
        }

    def store(name: str, fitted: TeacherDecision) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec='seconds')
        fitted.provenance = dict(expected[name], versions=installed_versions(), date=now)
        if is_main_process():
            fitted.save(paths[name])
            logger.info(f'Decision "{name}": fitted and stored in {paths[name]}.')
        missing[name].decision.copy_from(fitted)

    images = next(iter(expected.values()))['data']['images']
    logger.info(
        f'Fitting the decisions {sorted(missing)} on {images} images with the test-time transform.'
    )
    run_fitters(stream, fitters, progress_bar, store, checkpoint)
