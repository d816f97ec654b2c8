"""The KD layer and its loss as the paper's formulas suggest them, to compare with.

Normalised copies of the inputs, distances to all centers and a mask, one-hot rows times the table, dense
targets, a log-softmax. It is written for this benchmark; the numbers are those of mmkdlayer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkdlayer.models import CentroidDecision, KDLayerConnector, SubclassDecision, TeacherDecision


class StraightforwardLayer(nn.Module):
    """Takes the parameters of a KD layer; gives its output and its scores."""

    def __init__(self, layer: KDLayerConnector) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N, K, H, W) and output (N, C, H, W)."""
        templates, semantics = self.layer.templates, self.layer.semantics
        kernel = F.normalize(templates.weight, dim=1)
        scores = templates.scale * F.conv2d(F.normalize(x, dim=1), kernel)
        assigned = F.relu(self.layer.bn(scores))
        kernel = F.normalize(semantics.weight, dim=1)
        values = semantics.scale * F.conv2d(F.normalize(assigned, dim=1), kernel)
        return scores, x + self.layer.alpha * values


@torch.no_grad()
def straightforward_target(decision: TeacherDecision, feature: Tensor, label: Tensor) -> Tensor:
    """Probabilities (N*H*W, K)."""
    rows = feature.permute(0, 2, 3, 1).flatten(0, 2)
    if isinstance(decision, CentroidDecision):
        return F.softmax(-decision.temperature * _distances(rows, decision.centroids), dim=1)
    assert isinstance(decision, SubclassDecision)
    z = rows @ decision.projection.t() + decision.offset
    distances = _distances(z, decision.centers)
    classes = torch.arange(decision.num_classes).repeat_interleave(decision.num_subclasses)
    own = label.repeat_interleave(len(rows) // len(label))
    distances = distances.masked_fill(classes.to(own.device) != own[:, None], float('inf'))
    one_hot = F.one_hot(distances.argmin(1), decision.num_templates).to(rows.dtype)
    return one_hot @ decision.decisions


def _distances(rows: Tensor, centers: Tensor) -> Tensor:
    return (
        rows.square().sum(1, keepdim=True) - 2 * rows @ centers.t() + centers.square().sum(1)
    ).clamp(min=0)


def straightforward_loss(
    decision: TeacherDecision, scores: Tensor, feature: Tensor, label: Tensor
) -> Tensor:
    """Mean divergence over the positions."""
    target = straightforward_target(decision, feature, label)
    rows = scores.permute(0, 2, 3, 1).flatten(0, 2)
    return F.kl_div(F.log_softmax(rows, dim=1), target, reduction='batchmean')
