"""What a student's KD layer does with images: which templates fire, and how much is added."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkdlayer.deploy.folded_kd_layer import FoldedKDLayer
from mmkdlayer.models.connectors import KDLayerConnector

from .nearest import Vocabulary

#: Templates of each position whose places are kept: those that match best.
STRONGEST = 4
#: Of the ratio |alpha v| / |x|: upper ends of the bins, the last one open.
BINS = np.linspace(0, 2, 41)


def find_layers(student: nn.Module) -> dict[str, nn.Module]:
    """A student's KD layers by name, trained or folded; those of ``kd_layers`` without that prefix."""
    return {
        name.removeprefix('kd_layers.'): module
        for name, module in student.named_modules()
        if isinstance(module, (KDLayerConnector, FoldedKDLayer))
    }


class LayerWatch:
    """Keeps what a KD layer (or a folded one) is given and returns, one forward pass at a time."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.x = self.out = torch.empty(0)
        self._handle = layer.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        self.x, self.out = args[0], output

    def remove(self) -> None:
        """Watch no more."""
        self._handle.remove()

    def scores(self) -> Tensor | None:
        """The raw scores (N, K, H, W) of what it was given; None of a folded layer, which has none."""
        return self.layer.templates(self.x) if isinstance(self.layer, KDLayerConnector) else None

    def matches(self, scores: Tensor | None) -> Tensor:
        """The assignments (N, K, H, W), ``ReLU(BN(score))``, each position's of length 1 (or 0)."""
        layer: Any = self.layer
        found = layer.match(self.x) if scores is None else F.relu(layer.bn(scores))
        return F.normalize(found.float(), dim=1)


class TemplateUse:
    """Statistics of one KD layer over images, in memory that does not grow with their number.

    ``kept`` places are kept of each template.
    """

    def __init__(self, layer: Any, classes: int, kept: int = 5) -> None:
        self.templates = int(layer.num_templates)
        self.alpha = getattr(layer, 'alpha', None)
        self.scales = {
            part: (float(module.scale), float(module.first_scale))
            for part, module in (('templates', layer.templates), ('semantics', layer.semantics))
            if hasattr(module, 'scale')
        }
        self.vocabulary = Vocabulary(self.templates, classes, kept)
        #: Positions that were seen; at which each template fires (K,); its greatest share (K,).
        self.positions = 0
        self.fires = np.zeros(self.templates, np.int64)
        self.greatest = np.zeros(self.templates, np.float32)
        #: Counts of |alpha v| / |x| in BINS, and its sum.
        self.ratios = np.zeros(len(BINS), np.int64)
        self.ratio_sum = 0.0

    def add(
        self, watch: LayerWatch, matches: Tensor, images: np.ndarray, labels: np.ndarray
    ) -> None:
        """Add images (N,) of one forward pass, with the watch's matches (N, K, H, W).

        ``labels`` (N,) are -1 where there is none.
        """
        count, _, height, width = matches.shape
        self.positions += count * height * width
        self.fires += (matches > 0).sum((0, 2, 3)).cpu().numpy()
        self.greatest = np.maximum(self.greatest, matches.amax((0, 2, 3)).cpu().numpy())
        values, entries = (
            found.cpu().numpy() for found in matches.topk(min(STRONGEST, self.templates), dim=1)
        )
        fired = values[:, 0] > 0
        at = np.broadcast_to(labels[:, None, None], fired.shape)[fired]
        self.vocabulary.count(entries[:, 0][fired][:, None, None], at)
        self.vocabulary.add(entries, np.where(values > 0, values, -np.inf), images)
        x, added = watch.x.float(), (watch.out - watch.x).float()
        ratio = added.norm(dim=1) / x.norm(dim=1).clamp_min(1e-12)
        found = ratio.flatten().cpu().numpy()
        self.ratio_sum += float(found.sum(dtype=np.float64))
        places = np.clip(np.searchsorted(BINS, found, side='right') - 1, 0, len(BINS) - 1)
        self.ratios += np.bincount(places, minlength=len(BINS))

    @property
    def dead(self) -> np.ndarray:
        """The templates that fire nowhere in these images."""
        return np.flatnonzero(self.fires == 0)

    @property
    def ratio(self) -> float:
        """The mean of |alpha v| / |x| over the positions."""
        return self.ratio_sum / max(1, self.positions)
