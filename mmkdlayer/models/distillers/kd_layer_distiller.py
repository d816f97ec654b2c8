"""mmrazor's configurable distiller, with KD layers in the student."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.model import BaseModel
from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.models.task_modules import RecorderManager
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.attach import attach_kd_layers, find_module
from mmkdlayer.models.connectors.teacher_feature import TeacherFeature
from mmkdlayer.models.kd_layer_options import parse_kd_layers
from mmkdlayer.models.labels import DataSampleRecorder
from mmkdlayer.models.losses import StoredDecisionLoss
from mmkdlayer.models.product_precision import set_precision
from mmkdlayer.models.teachers import attach_views
from mmkdlayer.registry import MODELS

from .checks import check_arguments, check_flags, check_inputs, check_mappings, without_none
from .early_exit import MODULE_RECORDERS, EarlyExitForward, parse_dtype, read_modules
from .frozen_teacher import keep_in_eval, leave_out_of_state_dict
from .no_head import allow_no_head
from .records import release_records
from .supervision import mmrazor_recorders, with_supervision


@MODELS.register_module()
class KDLayerDistiller(ConfigurableDistiller):
    """Puts KD layers into the student, then distils like mmrazor's ConfigurableDistiller.

    Each layer is declared once, in ``kd_layers``. The layers become the student's, as
    ``student.kd_layers.<name>``, and replace the output of the named module from then on. What
    supervises a layer is logged as ``distill.loss_<name>``: the scores and the teacher's feature are
    recorded by mmrazor's recorders, which are added here, and labels are those of the data samples that
    the student's forward pass is given, where the decision needs labels.

    All other connectors, recorders, deliveries and losses work as in mmrazor. A recorder of the named
    module sees the KD layer's output; its input is recorded as the input of ``kd_layers.<name>``, and
    its raw scores as the output of ``kd_layers.<name>.templates``.

    A teacher that is not trained stays in eval mode as a whole, and is left out of the state dict:
    its weights are constants that have a file of their own.

    Args:
        kd_layers: For each layer a dict with the keys of
            :class:`~mmkdlayer.models.kd_layer_options.KDLayerOptions`, such as::

                inter=dict(
                    module='backbone.layer4.0',
                    in_channels=512,
                    teacher='backbone.layer4.0',
                    decision=dict(type='mmkdlayer.SubclassDecision', num_classes=1000))

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
        precision: Of all products of KD layers and decisions; see :func:`set_precision`. None leaves
            each its own, which is 'float32'.
        **kwargs: As for mmrazor's ConfigurableDistiller. A loss, connector, recorder or mapping that is
            None is left out, which takes it out of a config that is inherited.

    Raises:
        ConfigError: A name or a size does not fit.
        DecisionFileError: The file of a decision does not fit.
    """

    def __init__(
        self,
        kd_layers: Mapping[str, Mapping[str, Any]] | None = None,
        save_teacher: bool = False,
        stop_teacher_early: bool = True,
        teacher_dtype: str | None = None,
        teacher_channels_last: bool = False,
        precision: str | None = None,
        **kwargs: Any,
    ) -> None:
        check_arguments(type(self), kwargs)
        options = parse_kd_layers(kd_layers, type(self).__name__)
        check_flags(
            save_teacher=save_teacher,
            stop_teacher_early=stop_teacher_early,
            teacher_channels_last=teacher_channels_last,
        )
        kwargs = without_none(kwargs)
        for key in ('student_recorders', 'teacher_recorders'):
            kwargs[key] = mmrazor_recorders(kwargs.get(key) or {})
        kwargs = with_supervision(kwargs, options)
        check_mappings(kwargs)
        try:
            super().__init__(**kwargs)
        except AssertionError as error:  # mmrazor's way of saying what is wrong
            raise ConfigError(f'KDLayerDistiller: {" ".join(str(error).split())}') from error
        check_inputs(self.distill_losses, self.loss_forward_mappings)
        self.kd_layers = options
        self.save_teacher = save_teacher
        self.stop_teacher_early = stop_teacher_early
        self.teacher_dtype = parse_dtype(teacher_dtype)
        self.teacher_channels_last = teacher_channels_last
        self.precision = precision
        set_precision(self, precision)  # of the decisions
        self.data_samples = DataSampleRecorder()

    def prepare_from_student(self, model: BaseModel) -> None:
        """Attach the KD layers to the student, then let the recorders find their modules.

        Raises:
            ConfigError: A KD layer or a recorder names a module that is not there.
        """
        attach_kd_layers(model, self.kd_layers)
        set_precision(getattr(model, 'kd_layers', model), self.precision)
        allow_no_head(model)
        # In a list: they are the student's modules, not the distiller's.
        self._layers = [model.kd_layers] if self.kd_layers else []
        if any(self._needs_labels(n) or self._is_stored(n) for n in self.loss_forward_mappings):
            model.register_forward_pre_hook(self.data_samples, with_kwargs=True)
        _check_sources(self.student_recorders, model, 'student')
        super().prepare_from_student(model)

    def prepare_from_teacher(self, model: nn.Module) -> None:
        """Freeze the teacher's mode, then let the recorders find their modules.

        Raises:
            ConfigError: A recorder names a module that is not there, or the teacher is trained and an
                option is for a frozen one.
        """
        for network in getattr(model, 'members', {'': model}).values():
            allow_no_head(network)  # a foundation model's features teach without one
        _check_sources(self.teacher_recorders, model, 'teacher')
        attach_views(model)
        for connector in self.connectors.values():
            if isinstance(connector, TeacherFeature):
                connector.attach(model)
        if any(parameter.requires_grad for parameter in model.parameters()):
            if self.teacher_dtype is not None or self.teacher_channels_last:
                raise ConfigError(
                    'KDLayerDistiller: teacher_dtype and teacher_channels_last are for a frozen '
                    'teacher, but this one is trained (teacher_trainable). Take them out.'
                )
            super().prepare_from_teacher(model)
            return
        keep_in_eval(model)
        if not self.save_teacher:
            leave_out_of_state_dict(model)
        super().prepare_from_teacher(model)
        stops = self.stop_teacher_early and not self.deliveries.deliveries
        read = read_modules(self.teacher_recorders.recorders.values()) if stops else None
        # After the recorders, whose hooks must run first.
        model.forward = EarlyExitForward(
            model, read, self.teacher_dtype, self.teacher_channels_last
        )

    def compute_distill_losses(self) -> dict[str, Tensor]:
        """Compute the losses; what was recorded for them is released at once.

        Kept records would hold the whole graph until the next forward pass, and would make a deep
        copy of the model fail.

        Raises:
            ConfigError: Shapes do not fit, or the scores carry no gradient.
            DataError: A label is missing or out of range.
            UnfittedDecisionError: A decision has no tables.
        """
        try:
            self._check_gradients()
            losses = {}
            for loss_name, mapping in self.loss_forward_mappings.items():
                inputs = {key: self.get_record(**record) for key, record in mapping.items()}
                if self._needs_labels(loss_name):
                    inputs['gt_label'] = self.data_samples.labels()
                if self._is_stored(loss_name):
                    inputs['stored'] = self.data_samples.stored(
                        loss_name.removeprefix('loss_'), inputs['scores']
                    )
                losses[loss_name] = self.distill_losses[loss_name](**inputs)
            return losses
        finally:
            self.release_records()

    def _needs_labels(self, loss_name: str) -> bool:
        """Whether a loss's decision reads labels that no recorder of the config gives."""
        decision = getattr(self.distill_losses[loss_name], 'decision', None)
        mapped = self._is_stored(loss_name) or 'gt_label' in self.loss_forward_mappings[loss_name]
        return not mapped and getattr(decision, 'needs_labels', False)

    def _is_stored(self, loss_name: str) -> bool:
        """Whether a loss reads what came with the images."""
        return isinstance(self.distill_losses[loss_name], StoredDecisionLoss)

    def _check_gradients(self) -> None:
        """Scores without a graph would be supervised in vain."""
        for recorder in self.student_recorders.recorders.values():
            for name, layer in (pair for layers in self._layers for pair in layers.items()):
                if (
                    torch.is_grad_enabled()
                    and recorder.source == f'kd_layers.{name}.templates'
                    and any(parameter.requires_grad for parameter in layer.parameters())
                    and not all(getattr(r, 'requires_grad', True) for r in recorder.data_buffer)
                ):
                    raise ConfigError(
                        f'kd_layers.{name}: its recorded scores carry no gradient, so no loss could '
                        'train it. Either the student runs without gradients (student_trainable), or '
                        'the module that the layer is placed after lies inside a module with '
                        'activation checkpointing, which runs without gradients first. Checkpoint '
                        'smaller modules, or checkpoint with use_reentrant=False.'
                    )

    def release_records(self) -> None:
        """Drop everything that the recorders hold."""
        release_records(self)


def _check_sources(recorders: RecorderManager, model: nn.Module, role: str) -> None:
    """Raise a ConfigError with near matches where a module recorder's source is not there."""
    for name, recorder in recorders.recorders.items():
        # An empty source is the model itself (mmrazor's CRD recipe records its inputs).
        if recorder.source and type(recorder).__name__ in MODULE_RECORDERS:
            find_module(model, recorder.source, f'{name}: the {role}')
