"""Finds the decisions of a distillation model, reuses what is fitted and fits the rest."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import MMLogger
from tqdm import tqdm

from mmkdlayer.errors import ConfigError, DecisionFileError
from mmkdlayer.fitting import CentroidFitter, Fitter, SubclassFitter, run_fitters
from mmkdlayer.models.decisions import (
    CentroidDecision,
    SubclassDecision,
    TeacherDecision,
    read_decision_file,
)
from mmkdlayer.models.losses import TeacherDecisionLoss
from mmkdlayer.pipelines import find_pipeline

from .feature_stream import FeatureStream, fitting_dataloader_cfg
from .fingerprints import describe_dataset, describe_preprocessor, hash_json, hash_model

#: What must be the same for a stored decision to be used again.
IDENTITY = ('teacher', 'layer', 'size', 'data', 'seed')


@dataclass
class Supervision:
    """A KD layer's loss, and where its inputs are recorded.

    Attributes:
        name: Name of the decision file: the loss's name without ``loss_``.
        loss: The loss.
        feature: The entry ``teacher_feature`` of ``loss_forward_mappings``.
        scores: The entry ``scores``.
    """

    name: str
    loss: TeacherDecisionLoss
    feature: dict
    scores: dict

    @property
    def decision(self) -> TeacherDecision:
        """The loss's decision."""
        return self.loss.decision


def find_supervisions(distiller: Any) -> list[Supervision]:
    """All losses of a distiller that compare scores with a teacher's decision.

    Raises:
        ConfigError: Such a loss lacks its scores or its teacher feature.
    """
    found = []
    for loss_name, loss in getattr(distiller, 'distill_losses', {}).items():
        if not isinstance(loss, TeacherDecisionLoss):
            continue
        mapping = distiller.loss_forward_mappings.get(loss_name, {})
        missing = {'scores', 'teacher_feature'} - set(mapping)
        if missing:
            raise ConfigError(
                f'loss_forward_mappings["{loss_name}"] lacks {sorted(missing)}: a TeacherDecisionLoss '
                "needs the student's scores and the teacher's feature, each with its recorder."
            )
        found.append(
            Supervision(
                loss_name[len('loss_') :] if loss_name.startswith('loss_') else loss_name,
                loss,
                dict(mapping['teacher_feature']),
                dict(mapping['scores']),
            )
        )
    return found


def check_shapes(supervision: Supervision, feature: tuple, scores: tuple) -> None:
    """Check one image's shapes before anything is fitted or trained.

    Args:
        supervision: The loss they are for.
        feature: The teacher's (D, H', W').
        scores: The student's (K, H, W).

    Raises:
        ConfigError: Templates differ from the decision's, or the teacher's map is the smaller one.
    """
    name, decision = supervision.name, supervision.decision
    if len(feature) != 3 or len(scores) != 3:
        raise ConfigError(
            f'KD layer loss "{name}": expected a teacher feature (D, H, W) and scores (K, H, W) for '
            f'each image, but recorded {feature} and {scores}. Record modules that return maps.'
        )
    if scores[0] != decision.num_templates:
        raise ConfigError(
            f'KD layer loss "{name}": the student has {scores[0]} templates, but '
            f'{type(decision).__name__} decides over {decision.num_templates} '
            f'({decision.extra_repr()}). Make num_templates and the decision agree.'
        )
    if feature[1] < scores[1] or feature[2] < scores[2]:
        raise ConfigError(
            f'KD layer loss "{name}": the teacher\'s map is {feature[1]}x{feature[2]}, smaller than '
            f"the student's {scores[1]}x{scores[2]}. Record an earlier module of the teacher, or place "
            'the KD layer after a later module of the student.'
        )


def describe_teacher(algorithm: Any, cfg: Any) -> dict[str, Any]:
    """The teacher's weights (a hash), where they come from, and its config."""
    model_cfg = cfg.get('model', {})
    teacher_cfg = model_cfg.get('teacher', {})
    return dict(
        weights=hash_model(algorithm.teacher),
        checkpoint=str(model_cfg.get('teacher_ckpt')),
        config=teacher_cfg.to_dict() if hasattr(teacher_cfg, 'to_dict') else dict(teacher_cfg),
    )


def describe_layer(distiller: Any, record: Mapping[str, Any]) -> dict[str, Any]:
    """Which output of the teacher the features are."""
    recorder = distiller.teacher_recorders.get_recorder(record['recorder'])
    indices = {k: record[k] for k in ('record_idx', 'data_idx') if record.get(k)}
    return dict(source=recorder.source, recorder=type(recorder).__name__, **indices)


def installed_versions() -> dict[str, str]:
    """Versions that a result may depend on."""
    versions = dict(python=platform.python_version())
    for package in ('mmkdlayer', 'torch', 'mmengine', 'mmpretrain', 'mmrazor', 'numpy'):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """One phrase for each part of the identity that differs, naming both values."""
    phrases = []
    for key in IDENTITY:
        ours, theirs = expected.get(key), found.get(key)
        if key == 'teacher':
            ours = (ours or {}).get('weights')
            theirs = (theirs or {}).get('weights')
        if ours != theirs:
            phrases.append(f'{key} is {theirs!r} in the file and {ours!r} now')
    return phrases


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
        cache_dir: Folder for the projected features during fitting; None for a temporary one.

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
    if is_main_process():
        Path(out_dir).mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = dict(progress=progress_bar, seed=seed)
    if memory_budget is not None:
        options['memory_budget'] = memory_budget
    class_names = getattr(stream.dataset, 'metainfo', {}).get('classes')
    fitters = {
        name: make_fitter(
            supervision,
            dict(options, size=tuple(expected[name]['size'])),
            dict(cache_dir=cache_dir, class_names=class_names),
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
