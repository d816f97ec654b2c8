"""The networks of a report: a student with KD layers, and where it can be had what supervised it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS

from mmkdlayer.checkpoints import load_weights
from mmkdlayer.deploy.student_config import student_model_config
from mmkdlayer.deploy.trained_config import parse_config
from mmkdlayer.engine.fingerprints import hash_model
from mmkdlayer.engine.hooks.check_weights_hook import check_teacher
from mmkdlayer.engine.provenance import teacher_weights
from mmkdlayer.engine.supervision import SupervisedLayer, assign_teachers, find_supervised_layers
from mmkdlayer.engine.teacher_views import connect_views
from mmkdlayer.engine.teachers import find_teachers, loads_weights
from mmkdlayer.errors import ConfigError, DecisionFileError
from mmkdlayer.models.decisions import TeacherDecision, build_decision
from mmkdlayer.models.wrappers import unwrap_model

from .template_use import find_layers


@dataclass
class Networks:
    """What a report looks at.

    Attributes:
        student: The student, with its KD layers.
        preprocessor: Makes its batches.
        algorithm: The distillation algorithm; None where no teacher is run.
        supervised: The layers that a teacher that is run supervises, by the KD layer's name.
        decisions: Fitted decisions by the KD layer's name, also where no teacher is run.
        notes: Sentences on what is not there, and why.
    """

    student: Any
    preprocessor: Any
    algorithm: Any = None
    supervised: dict[str, SupervisedLayer] = field(default_factory=dict)
    decisions: dict[str, TeacherDecision] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def layers(self) -> dict[str, Any]:
        """The student's KD layers by name."""
        return find_layers(self.student)

    def load(self, state: Mapping[str, Any], origin: str) -> None:
        """Load the student's weights.

        Raises:
            CheckpointError: They do not fit.
        """
        load_weights(self.student, state, origin)


def open_networks(
    cfg: Config, meta: Mapping[str, Any], decisions: str | os.PathLike, teacher: bool = True
) -> Networks:
    """The networks of a training config, or of an exported student, on the device that there is.

    The student is initialised as at the beginning of its training; its weights are loaded afterwards.

    Args:
        cfg: The config.
        meta: The checkpoint's: its config names the teacher's weights where ``cfg`` does not.
        decisions: Folder of the decision files that the training has stored.
        teacher: Whether to run the teacher.

    Raises:
        CheckpointError: The teacher's weights can't be read or are of another network.
        ConfigError: The config does not fit the models, or there are no KD layers.
        DecisionFileError: A decision file is damaged or of another teacher.
    """
    why = _why_no_teacher(cfg, meta, teacher)
    device = get_device()
    if why:
        student: Any = MODELS.build(student_model_config(cfg)).to(device)
        student.init_weights()
        networks = Networks(student, student.data_preprocessor, notes=[why] if teacher else [])
        networks.decisions = _decisions_of_config(cfg, decisions)
    else:
        model = dict(cfg.model)
        if not model.get('data_preprocessor') and cfg.get('data_preprocessor'):
            model['data_preprocessor'] = cfg.data_preprocessor
        algorithm: Any = MODELS.build(model).to(device)
        algorithm.init_weights()
        networks = networks_of_training(algorithm, cfg, decisions)
    if not networks.layers:
        raise ConfigError(
            f'A report shows the KD layers of a student, but {type(networks.student).__name__} has '
            'none. Give the config of a training with KD layers, or the student.py of its export.'
        )
    return networks


def networks_of_training(
    algorithm: Any, cfg: Mapping[str, Any], decisions: str | os.PathLike | None = None
) -> Networks:
    """The networks of a distillation algorithm with a teacher, such as that of a running training.

    Args:
        algorithm: On its device.
        cfg: The training config.
        decisions: Folder of the files of decisions that are not fitted; None where all are ready.

    Raises:
        CheckpointError: The teacher's weights are of another network.
        ConfigError: The config does not fit the models.
        DecisionFileError: A decision file is damaged, or was fitted on another teacher.
    """
    student = unwrap_model(algorithm.student)
    networks = Networks(student, algorithm.data_preprocessor, algorithm)
    connect_views(algorithm, cfg)
    supervised = find_supervised_layers(getattr(algorithm, 'distiller', None))
    assign_teachers(supervised, algorithm, cfg.get('model') or {})
    for teacher in find_teachers(algorithm, cfg.get('model') or {}):
        check_teacher(teacher)
    recorders = algorithm.distiller.student_recorders
    for layer in supervised:
        source = recorders.get_recorder(layer.scores['recorder']).source
        name = source.rpartition('.')[0].removeprefix('kd_layers.')
        if name not in networks.layers:
            continue
        file = Path(decisions or '', f'{layer.name}.safetensors')
        if not layer.decision.is_fitted and decisions is not None and file.is_file():
            layer.decision.load(file)
        if not layer.decision.is_fitted:
            networks.notes.append(f'Layer {name}: its decision is not fitted, there is no {file}.')
            continue
        _check_teacher_of(layer, file)
        networks.supervised[name], networks.decisions[name] = layer, layer.decision
    return networks


def _check_teacher_of(layer: SupervisedLayer, file: Path) -> None:
    """A decision must have been fitted on the teacher that is run."""
    fitted, own = teacher_weights(layer.decision.provenance), None
    if fitted is not None:
        own = hash_model(layer.teacher.model)
    if fitted != own:
        raise DecisionFileError(
            f'{layer.decision.file or file} was fitted on a teacher with the fingerprint {fitted}, but '
            f'the teacher here has {own}. Give the checkpoint of that teacher, with --cfg-options '
            'model.teacher_ckpt=FILE, or --no-teacher.'
        )


def _why_no_teacher(cfg: Config, meta: Mapping[str, Any], wanted: bool) -> str:
    """Why no teacher is run; empty where one is, whose checkpoint ``cfg`` names then."""
    if not wanted:
        return 'The teacher was not run (--no-teacher).'
    model = cfg.model
    if 'distiller' not in model:
        return 'No teacher was run: the config is that of a student alone.'
    if not model.get('teacher') and not model.get('teachers'):
        return 'No teacher was run: the config has none.'
    if model.get('teacher_ckpt') or loads_weights(model.get('teacher') or model.get('teachers')):
        return ''
    if _checkpoints(model):
        return ''
    try:
        trained = parse_config(str(meta.get('cfg') or ''))['model'].get('teacher_ckpt')
    except Exception:  # whatever stands there
        trained = None
    if trained and Path(trained).is_file():
        cfg.model.teacher_ckpt = trained
        return ''
    return (
        'No teacher was run: the config names no weights of it. Add --cfg-options '
        'model.teacher_ckpt=FILE.'
    )


def _checkpoints(model: Mapping[str, Any]) -> bool:
    """Whether several teachers have files of weights."""
    group = (model.get('teacher') or {}).get('checkpoints')
    return bool(group) or any(
        entry.get('ckpt_path') for entry in (model.get('teachers') or {}).values()
    )


def _decisions_of_config(cfg: Config, folder: str | os.PathLike) -> dict[str, TeacherDecision]:
    """The fitted decisions that a config's KD layers name, or that their training has stored."""
    declared = (cfg.model.get('distiller') or {}).get('kd_layers') or {}
    found = {}
    for name, layer in declared.items():
        if not layer.get('decision'):
            continue
        decision = build_decision(layer['decision'], f'kd_layers.{name}.decision')
        file = Path(folder, f'{name}.safetensors')
        if not decision.is_fitted and file.is_file():
            decision.load(file)
        if decision.is_fitted:
            found[name] = decision
    return found
