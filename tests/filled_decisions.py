"""Random decisions of the right shapes, instead of fitting."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmkdlayer.engine.teachers import find_teachers
from mmkdlayer.models import CentroidDecision, SubclassDecision


def fill_decisions(model: nn.Module, images: Tensor) -> None:
    """Give every decision of a model random tables for the features that these images have."""
    distiller = getattr(model, 'distiller', None)
    for name, mapping in getattr(distiller, 'loss_forward_mappings', {}).items():
        decision = getattr(distiller.distill_losses[name], 'decision', None)
        if decision is None:
            continue
        recorder = mapping['teacher_feature']['recorder']
        source = distiller.teacher_recorders.get_recorder(recorder).source
        channels = feature_channels(model, source, images)
        count = decision.num_templates
        if isinstance(decision, CentroidDecision):
            decision.set_tables(centroids=torch.randn(count, channels))
        else:
            assert isinstance(decision, SubclassDecision)
            identity = torch.arange(count).repeat(2, 1)
            decision.set_tables(
                projection=torch.randn(decision.num_components, channels),
                offset=torch.randn(decision.num_components),
                centers=torch.randn(count, decision.num_components),
                decisions=torch.sparse_coo_tensor(
                    identity, torch.ones(count), (count, count), check_invariants=True
                ).coalesce(),
            )


def feature_channels(model: nn.Module, source: str, images: Tensor) -> int:
    """Channels of what a recorder of the teacher (or of one of several) sees."""
    channels = []
    for teacher in find_teachers(model, {}):
        if teacher.name and not source.startswith(f'{teacher.name}.'):
            continue
        hook = teacher.model.get_submodule(teacher.source(source)).register_forward_hook(
            lambda module, args, output: channels.append(output.size(1))
        )
        with torch.no_grad():
            teacher.model(images, mode='tensor')
        hook.remove()
    return channels[0]
