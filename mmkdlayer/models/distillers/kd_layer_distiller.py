"""mmrazor's configurable distiller, with KD layers in the student."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.model import BaseModel
from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.models.task_modules import RecorderManager
from mmrazor.registry import TASK_UTILS
from torch import nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.connectors import KDLayerConnector
from mmkdlayer.models.losses import TeacherDecisionLoss
from mmkdlayer.models.splicing import Place, attach_kd_layers, find_module, parse_place
from mmkdlayer.registry import MODELS

from .brief_teacher import BriefForward, parse_dtype, read_modules
from .frozen_teacher import keep_in_eval, leave_out_of_state_dict
from .records import release_records


@MODELS.register_module()
class KDLayerDistiller(ConfigurableDistiller):
    """Puts KD layers into the student, then distils like mmrazor's ConfigurableDistiller.

    The connectors that ``kd_layers`` names move into the student, as ``student.kd_layers.<name>``,
    and replace the output of the named module from then on. All other connectors, recorders,
    deliveries and losses work as in mmrazor. A recorder of the named module sees the KD layer's
    output; its input is recorded as the input of ``kd_layers.<name>``, and its raw scores as the
    output of ``kd_layers.<name>.templates``.

    A teacher that is not trained stays in eval mode as a whole, and is left out of the state dict:
    its weights are constants that have a file of their own.

    Args:
        kd_layers: For each connector that is a KD layer, the student module after which it is placed:
            ``dict(inter='backbone.layer4.0', penult='backbone.layer4')``. A module that returns a
            tuple is given as ``dict(module='backbone', output_index=0)``.
        save_teacher: Whether checkpoints carry the teacher's weights.
        stop_teacher_early: End a frozen teacher's forward pass in training after the last module that
            is recorded, which leaves out its head and its loss where nothing reads them. Only done
            where modules alone are recorded and nothing is delivered between the networks.
        teacher_dtype: 'bfloat16' or 'float16' runs a frozen teacher in training under autocast; the
            decisions are fitted, and the losses computed, in float32 all the same.
        teacher_channels_last: Give a frozen teacher its images in channels-last order in training. It
            is faster for most convolutions, but losses and networks that ``view`` a map, as some of
            mmrazor's do, fail on what comes out. This and the two before act where the algorithm calls
            the teacher itself; FpnTeacherDistill runs its ``extract_feat`` alone, as it is.
        **kwargs: As for mmrazor's ConfigurableDistiller.

    Raises:
        ConfigError: A name or a size does not fit.
    """

    def __init__(
        self,
        kd_layers: Mapping[str, Place] | None = None,
        save_teacher: bool = False,
        stop_teacher_early: bool = True,
        teacher_dtype: str | None = None,
        teacher_channels_last: bool = False,
        **kwargs: Any,
    ) -> None:
        for key in ('student_recorders', 'teacher_recorders'):
            kwargs[key] = _mmrazor_recorders(kwargs.get(key) or {})
        super().__init__(**kwargs)
        self.kd_layers = dict(kd_layers or {})
        self.save_teacher = save_teacher
        self.stop_teacher_early = stop_teacher_early
        self.teacher_dtype = parse_dtype(teacher_dtype)
        self.teacher_channels_last = teacher_channels_last
        for name, place in self.kd_layers.items():
            parse_place(name, place)
            if name not in self.connectors:
                raise ConfigError(
                    f'KDLayerDistiller: kd_layers places a layer "{name}", but there is no such '
                    f'connector; the connectors are {sorted(self.connectors)}. Add {name}=dict('
                    'type="mmkdlayer.KDLayerConnector", in_channels=..., num_templates=...).'
                )
        self._check_connectors()
        self._check_templates()

    def _check_connectors(self) -> None:
        """A KD layer runs in the student: a loss can't run it once more on a record."""
        for loss_name, mapping in self.loss_forward_mappings.items():
            for key, record in mapping.items():
                if record.get('connector') in self.kd_layers:
                    name = record['connector']
                    raise ConfigError(
                        f'loss_forward_mappings["{loss_name}"]["{key}"] runs the connector "{name}", '
                        'but kd_layers places it in the student. Take the connector out of the '
                        f'mapping and record "kd_layers.{name}" or "kd_layers.{name}.templates".'
                    )

    def _check_templates(self) -> None:
        """Each decision must have as many templates as the layer whose scores it supervises."""
        for loss_name, mapping in self.loss_forward_mappings.items():
            loss = self.distill_losses[loss_name]
            if not isinstance(loss, TeacherDecisionLoss) or 'scores' not in mapping:
                continue
            recorder = self.student_recorders.get_recorder(mapping['scores']['recorder'])
            for name in self.kd_layers:
                layer = self.connectors[name]
                if recorder.source != f'kd_layers.{name}.templates':
                    continue
                if not isinstance(layer, KDLayerConnector):
                    continue
                decision = loss.decision
                if layer.num_templates != decision.num_templates:
                    raise ConfigError(
                        f'KD layer "{name}" has num_templates={layer.num_templates}, but '
                        f'"{loss_name}" supervises it with a {type(decision).__name__} over '
                        f'{decision.num_templates} templates ({decision.extra_repr()}). Set '
                        f'num_templates={decision.num_templates}.'
                    )

    def prepare_from_student(self, model: BaseModel) -> None:
        """Move the KD layers into the student, then let the recorders find their modules.

        Raises:
            ConfigError: A KD layer or a recorder names a module that is not there.
        """
        layers = {name: self.connectors.pop(name) for name in self.kd_layers}
        attach_kd_layers(model, layers, self.kd_layers)
        # In a plain dict: they are the student's modules, not the distiller's.
        self._placed_layers = layers
        _check_sources(self.student_recorders, model, 'student')
        super().prepare_from_student(model)

    def prepare_from_teacher(self, model: nn.Module) -> None:
        """Freeze the teacher's mode, then let the recorders find their modules.

        Raises:
            ConfigError: A recorder names a module that is not there.
        """
        _check_sources(self.teacher_recorders, model, 'teacher')
        if not any(parameter.requires_grad for parameter in model.parameters()):
            keep_in_eval(model)
            if not self.save_teacher:
                leave_out_of_state_dict(model)
        super().prepare_from_teacher(model)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            stops = self.stop_teacher_early and not self.deliveries.deliveries
            read = read_modules(self.teacher_recorders.recorders.values()) if stops else None
            # After the recorders, whose hooks must run first.
            model.forward = BriefForward(
                model, read, self.teacher_dtype, self.teacher_channels_last
            )

    def compute_distill_losses(self) -> dict:
        """Compute the losses; what was recorded for them is released at once.

        Kept records would hold the whole graph until the next forward pass, and would make a deep
        copy of the model fail.
        """
        try:
            self._check_gradients()
            return super().compute_distill_losses()
        finally:
            self.release_records()

    def _check_gradients(self) -> None:
        """Scores without a graph would be supervised in vain."""
        for recorder in self.student_recorders.recorders.values():
            for name, layer in self._placed_layers.items():
                if (
                    torch.is_grad_enabled()
                    and recorder.source == f'kd_layers.{name}.templates'
                    and any(parameter.requires_grad for parameter in layer.parameters())
                    and not all(getattr(r, 'requires_grad', True) for r in recorder.data_buffer)
                ):
                    raise ConfigError(
                        f'KD layer "{name}": its recorded scores carry no gradient, so no loss could '
                        'train it. Either the student runs without gradients (student_trainable), or '
                        'the module that the layer is placed after lies inside a module with '
                        'activation checkpointing, which runs without gradients first. Checkpoint '
                        'smaller modules, or checkpoint with use_reentrant=False.'
                    )

    def release_records(self) -> None:
        """Drop everything that the recorders hold."""
        release_records(self)


def _mmrazor_recorders(recorders: Mapping[str, Mapping[str, Any]]) -> dict[str, dict]:
    """Make recorders' types that are mmrazor's be found whatever the default scope is."""
    return {
        name: dict(cfg, type=f'mmrazor.{cfg["type"]}')
        if f'{cfg["type"]}Recorder' in TASK_UTILS.module_dict
        else dict(cfg)
        for name, cfg in recorders.items()
    }


def _check_sources(recorders: RecorderManager, model: nn.Module, role: str) -> None:
    """Raise a ConfigError with near matches where a module recorder's source is not there."""
    for recorder in recorders.recorders.values():
        # An empty source is the model itself (mmrazor's CRD recipe records its inputs).
        if recorder.source and type(recorder).__name__ in (
            'ModuleOutputsRecorder',
            'ModuleInputsRecorder',
        ):
            find_module(model, recorder.source, role)
