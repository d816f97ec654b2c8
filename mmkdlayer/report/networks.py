"""The networks of a report: a student with KD layers, and where it can be had what supervised it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
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
from mmkdlayer.errors import DecisionFileError
from mmkdlayer.models.decisions import TeacherDecision, build_decision
from mmkdlayer.models.wrappers import unwrap_model
from mmkdlayer.stored import take_out_store
from mmkdlayer.type_names import type_name

from .template_use import find_layers


@dataclass
class Networks:
    """What a report looks at."""

    student: Any  #: the student, with its KD layers
    preprocessor: Any  #: makes its batches
    algorithm: Any = None  #: the distillation algorithm; None where no teacher is run
    #: The layers that a teacher that is run supervises, by the KD layer's name.
    supervised: dict[str, SupervisedLayer] = field(default_factory=dict)
    #: Fitted decisions by the KD layer's name, also where no teacher is run.
    decisions: dict[str, TeacherDecision] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  #: sentences on what is not there, and why

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
        ConfigError: The config does not fit the models.
        DecisionFileError: A decision file is damaged or of another teacher.
    """
    folders = [decisions, *_stores(cfg, meta)]
    take_out_store(cfg, forget=True)
    why = _why_no_teacher(cfg, meta, teacher)
    device = get_device()
    if why:
        student: Any = MODELS.build(student_model_config(cfg)).to(device)
        student.init_weights()
        networks = Networks(student, student.data_preprocessor, notes=[why] if teacher else [])
        networks.decisions = _decisions_of_config(cfg, folders)
    else:
        model = dict(cfg.model)
        if not model.get('data_preprocessor') and cfg.get('data_preprocessor'):
            model['data_preprocessor'] = cfg.data_preprocessor
        algorithm: Any = MODELS.build(model).to(device)
        algorithm.init_weights()
        networks = networks_of_training(algorithm, cfg, folders)
    if not networks.layers:
        networks.notes.append('This student has no KD layers, so there are no templates to show.')
    return networks


def networks_of_training(
    algorithm: Any, cfg: Mapping[str, Any], folders: Sequence[str | os.PathLike] = ()
) -> Networks:
    """The networks of a distillation algorithm with a teacher, such as that of a running training.

    Decisions that are not fitted yet are read from their files in ``folders``.

    Raises:
        CheckpointError: The teacher's weights are of another network.
        ConfigError: The config does not fit the models.
        DecisionFileError: A decision file is damaged, or was fitted on another teacher.
    """
    student = unwrap_model(getattr(algorithm, 'student', algorithm))  # a plain training has none
    distiller = getattr(algorithm, 'distiller', None)
    teachers = find_teachers(algorithm, cfg.get('model') or {})
    if not teachers:
        networks = Networks(student, algorithm.data_preprocessor)
        networks.notes.append('No teacher was run: the training has none, or has stored decisions.')
        for name, loss in getattr(distiller, 'distill_losses', {}).items():
            decision = getattr(loss, 'decision', None)
            if isinstance(decision, TeacherDecision) and decision.is_fitted:
                networks.decisions[name.removeprefix('loss_')] = decision
        return networks
    networks = Networks(student, algorithm.data_preprocessor, algorithm)
    connect_views(algorithm, cfg)
    supervised = find_supervised_layers(distiller)
    assign_teachers(supervised, algorithm, cfg.get('model') or {})
    for teacher in teachers:
        check_teacher(teacher)
    recorders = algorithm.distiller.student_recorders
    for layer in supervised:
        source = recorders.get_recorder(layer.scores['recorder']).source
        name = source.rpartition('.')[0].removeprefix('kd_layers.')
        if name not in networks.layers:
            continue
        _load(layer.decision, layer.name, folders)
        if not layer.decision.is_fitted:
            networks.notes.append(
                f'Layer {name}: its decision is not fitted, and there is no {layer.name}.safetensors in '
                f'{", ".join(map(str, folders))}.'
            )
            continue
        _check_teacher_of(layer)
        networks.supervised[name], networks.decisions[name] = layer, layer.decision
    return networks


def _load(decision: TeacherDecision, name: str, folders: Iterable[str | os.PathLike]) -> None:
    """Load a decision that is not fitted from the first folder that has its file."""
    files = (Path(folder, f'{name}.safetensors') for folder in folders)
    file = next((file for file in files if file.is_file()), None)
    if file is not None and not decision.is_fitted:
        decision.load(file)


def _check_teacher_of(layer: SupervisedLayer) -> None:
    """A decision must have been fitted on the teacher that is run."""
    fitted, own = teacher_weights(layer.decision.provenance), None
    if fitted is not None:
        own = hash_model(layer.teacher.model)
    if fitted != own:
        raise DecisionFileError(
            f'Decision "{layer.name}" was fitted on a teacher with the fingerprint {fitted}, but '
            f'the teacher here has {own}. Give the checkpoint of that teacher, with --cfg-options '
            'model.teacher_ckpt=FILE, or --no-teacher.'
        )


def _why_no_teacher(cfg: Config, meta: Mapping[str, Any], wanted: bool) -> str:
    """Why no teacher is run; empty where one is, whose checkpoint ``cfg`` names then."""
    if not wanted:
        return 'The teacher was not run (--no-teacher).'
    model, trained = cfg.model, _trained_model(meta)
    if 'distiller' not in model:
        return 'No teacher was run: the config is that of a student alone.'
    if not model.get('teacher') and not model.get('teachers'):
        return 'No teacher was run: the config has none.'
    stated, teacher = model.get('teacher_ckpt'), trained.get('teacher') or {}
    was_stored = type_name(teacher.get('type')) == 'NoTeacher'
    if stated and was_stored and not Path(stated).is_file():
        return (
            f'No teacher was run: its decisions were stored, and its weights {stated} are not here.'
        )
    several = (model.get('teachers') or {}).values()
    if (
        stated
        or loads_weights(model.get('teacher') or model.get('teachers'))
        or (model.get('teacher') or {}).get('checkpoints')
        or any(entry.get('ckpt_path') for entry in several)
    ):
        return ''
    found = trained.get('teacher_ckpt') or teacher.get('teacher_ckpt')
    if found and Path(str(found)).is_file():
        cfg.model.teacher_ckpt = found
        return ''
    return (
        'No teacher was run: the config names no weights of it. Add --cfg-options '
        'model.teacher_ckpt=FILE.'
    )


def _trained_model(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """The ``model`` of the config that a checkpoint was trained with; empty where that is not known."""
    try:
        return parse_config(str(meta.get('cfg') or ''))['model']
    except Exception:  # whatever stands there
        return {}


def _stores(cfg: Config, meta: Mapping[str, Any]) -> list[Path]:
    """Folders of the decision files in the stores that a config, or that of a checkpoint, names."""
    found = {}
    for model in (cfg.model, _trained_model(meta)):
        for layer in ((model.get('distiller') or {}).get('kd_layers') or {}).values():
            store = (layer.get('decision') or {}).get('stored')
            if store:
                found[Path(store, 'decisions')] = True
    return list(found)


def _decisions_of_config(
    cfg: Config, folders: Sequence[str | os.PathLike]
) -> dict[str, TeacherDecision]:
    """The fitted decisions that a config's KD layers name, or that their training has stored."""
    declared = (cfg.model.get('distiller') or {}).get('kd_layers') or {}
    found = {}
    for name, layer in declared.items():
        if not layer.get('decision'):
            continue
        decision = build_decision(layer['decision'], f'kd_layers.{name}.decision')
        _load(decision, name, folders)
        if decision.is_fitted:
            found[name] = decision
    return found
