"""Random decisions of the right shapes, instead of fitting."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmkdlayer.engine.teachers import find_teachers
from mmkdlayer.models import CentroidDecision, TeacherDecision

#: From this many templates on, a table of decisions is sparse: each sub-class is decided for itself.
MANY = 1000


def fill_decisions(model: nn.Module, images: Tensor) -> None:
    """Give every decision of a model random tables for the features that these images have."""
    distiller = getattr(model, 'distiller', None)
    for name, mapping in getattr(distiller, 'loss_forward_mappings', {}).items():
        decision = getattr(distiller.distill_losses[name], 'decision', None)
        if decision is not None:
            recorder = mapping['teacher_feature']['recorder']
            source = distiller.teacher_recorders.get_recorder(recorder).source
            fill_decision(decision, feature_channels(model, source, images))


def fill_decision(decision: TeacherDecision, channels: int, seed: int = 5) -> None:
    """Give a decision random tables for features with this many channels."""
    generator = torch.Generator().manual_seed(seed)
    count = decision.num_templates
    if isinstance(decision, CentroidDecision):
        decision.set_tables(centroids=torch.randn(count, channels, generator=generator))
        return
    components = decision.num_components
    if count < MANY:
        table = torch.rand(count, count, generator=generator).softmax(1)
    else:
        diagonal = torch.arange(count).repeat(2, 1)
        table = torch.sparse_coo_tensor(
            diagonal, torch.ones(count), (count, count), check_invariants=True
        ).coalesce()
    decision.set_tables(
        projection=torch.randn(components, channels, generator=generator),
        offset=torch.randn(components, generator=generator),
        centers=torch.randn(count, components, generator=generator),
        decisions=table,
    )


def feature_channels(model: nn.Module, source: str, images: Tensor) -> int:
    """Channels of what a recorder of the teacher (or of one of several) sees."""
    channels = []
    for teacher in find_teachers(model, {}):
        if teacher.name and not source.startswith(f'{teacher.name}.'):
            continue
        hook = teacher.model.get_submodule(teacher.source(source)).register_forward_hook(
            lambda module, args, output: channels.append(_channels(output))
        )
        with torch.no_grad():
            teacher.model(images, mode='tensor')
        hook.remove()
    return channels[0]


def _channels(output: Any) -> int:
    """Of a map (N, C, H, W), tokens (N, L, C), or the first of several outputs."""
    output = output[0] if isinstance(output, (tuple, list)) else output
    return output.size(2 if output.dim() == 3 else 1)
