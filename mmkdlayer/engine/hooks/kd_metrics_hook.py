"""Logs how the student's templates are used, and how well they agree with the teacher."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmkdlayer.engine.loops import ends_epoch
from mmkdlayer.models.connectors import KDLayerConnector
from mmkdlayer.models.losses.teacher_decision_loss import DecisionLoss
from mmkdlayer.models.ops import rows_of
from mmkdlayer.models.wrappers import unwrap_model
from mmkdlayer.registry import HOOKS

#: What is logged unless details are asked for.
MAIN_METRICS = ('agreement', 'student_perplexity', 'dead_templates')
#: Scores that are worked on together.
CHUNK = 1 << 22


@torch.no_grad()
def assignment_metrics(
    loss: DecisionLoss,
    scores: Tensor,
    teacher_feature: Tensor | None = None,
    gt_label: Tensor | None = None,
    stored: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """How student and teacher assign the positions of one batch to the templates.

    Args:
        loss: Whose decision the teacher's assignments are.
        scores: Raw scores (N, K, H, W).
        teacher_feature: As for the loss.
        gt_label: As for the loss.
        stored: As for a loss of stored decisions.

    Returns:
        Scalars: ``agreement``, the share of positions whose most probable template is the same for
        both; ``student_perplexity`` and ``teacher_perplexity``, exp of the entropy of the assignments'
        mean over the positions (1 to K: how many templates are in use).
    """
    count, num_templates, height, width = scores.shape
    both = dict(teacher_feature=teacher_feature, gt_label=gt_label)
    reads = {name: tensor for name, tensor in both.items() if tensor is not None}
    step = max(1, CHUNK // max(1, scores[0].numel()))
    agreeing = scores.new_zeros((), dtype=torch.float32)
    totals = scores.new_zeros(2, num_templates, dtype=torch.float32)
    for start in range(0, count, step):
        part = slice(start, start + step)
        given: dict[str, Any] = {name: tensor[part] for name, tensor in reads.items()}
        if stored is not None:
            given['stored'] = {name: tensor[part] for name, tensor in stored.items()}
        target = loss.decide(scores[part], **given)
        student = scores[part].float()
        agreeing += (student.argmax(1) == target.argmax(1)).sum()
        totals[0] += student.softmax(1).sum((0, 2, 3))
        totals[1] += target.sum((0, 2, 3))
    means = totals / totals.sum(1, keepdim=True)
    student, teacher = torch.special.entr(means).sum(1).exp()
    agreement = agreeing / (count * height * width)
    return dict(agreement=agreement, student_perplexity=student, teacher_perplexity=teacher)


@torch.no_grad()
def layer_metrics(layer: KDLayerConnector, scores: Tensor) -> dict[str, Tensor]:
    """Of one batch's scores: the share of dead templates, and the layer's two scales.

    A template is dead in a batch where ``ReLU(BN(score))`` is 0 at every position.
    """
    variance, mean = layer.bn.running_var, layer.bn.running_mean
    if layer.bn.training or variance is None or mean is None:
        variance, mean = torch.var_mean(rows_of(scores), 0, correction=0)
    reach = torch.where(layer.bn.weight > 0, scores.amax((0, 2, 3)), scores.amin((0, 2, 3)))
    best = (reach - mean) * (variance + layer.bn.eps).rsqrt() * layer.bn.weight + layer.bn.bias
    return dict(
        dead_templates=(best <= 0).float().mean(),
        template_scale=layer.templates.scale.squeeze(),
        semantic_scale=layer.semantics.scale.squeeze(),
    )


@HOOKS.register_module()
class KDMetricsHook(Hook):
    """Logs metrics of each loss of a KD layer, computed in some iterations alone.

    These are every ``interval``-th one and the last one of each epoch. They appear in the log as
    ``kd/<loss's name without "loss_">/<metric>``: ``agreement``, ``student_perplexity`` and
    ``dead_templates``; see :func:`assignment_metrics` and :func:`layer_metrics`. With several
    processes they are those of the main process's batch. An iteration in which they are computed
    waits for the device and forms dense targets, some images at a time; the others cost nothing.

    Args:
        interval: Iterations between two that are measured.
        details: Log all that the two functions give: the teacher's perplexity and the layers' scales
            too.
    """

    # Before LoggerHook (BELOW_NORMAL), which prints what is found in the same iteration.
    priority = 'NORMAL'

    def __init__(self, interval: int = 100, details: bool = False) -> None:
        self.interval = interval
        self.details = details
        self._handles: list[Any] = []
        self._found: dict[str, Tensor] = {}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Watch the losses in an iteration that is to be measured."""
        if not (ends_epoch(runner, batch_idx) or self.every_n_train_iters(runner, self.interval)):
            return
        model = unwrap_model(runner.model)
        distiller: Any = getattr(model, 'distiller', None)
        for name, loss in getattr(distiller, 'distill_losses', {}).items():
            if isinstance(loss, DecisionLoss):
                recorder = distiller.loss_forward_mappings[name]['scores']['recorder']
                source = distiller.student_recorders.get_recorder(recorder).source
                # Data-free trainings have a wrapper around the student too.
                layers = dict(unwrap_model(model.student).named_modules())
                layer = layers.get(source.rpartition('.')[0])
                # A log averages what is called a loss.
                measure = partial(self._measure, name.removeprefix('loss_'), layer)
                self._handles.append(loss.register_forward_pre_hook(measure, with_kwargs=True))

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Hand what was found to the log."""
        for handle in self._handles:
            handle.remove()
        for name, value in self._found.items():
            runner.message_hub.update_scalar(f'train/kd/{name}', value.item())
        self._handles, self._found = [], {}

    def _measure(self, name: str, layer: Any, loss: Any, args: tuple, kwargs: dict) -> None:
        """Forward pre-hook of a loss: compute the metrics of what it is called with."""
        inputs = {**dict(zip(('scores', 'teacher_feature', 'gt_label'), args)), **kwargs}
        found = assignment_metrics(loss, **inputs)
        if isinstance(layer, KDLayerConnector):
            found.update(layer_metrics(layer, inputs['scores']))
        for metric, value in found.items():
            if self.details or metric in MAIN_METRICS:
                self._found[f'{name}/{metric}'] = value
