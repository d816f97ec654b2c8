"""A store that is written image by image, as plainly as it gets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmkdlayer.checkpoints import hash_file
from mmkdlayer.engine.provenance import hash_decision
from mmkdlayer.models.decisions import SubclassDecision, TeacherDecision
from mmkdlayer.stored.facts import describe_drawing
from mmkdlayer.stored.files import make_fields
from mmkdlayer.stored.views import hash_view, render_view
from mmkdlayer.stored.writing import Writer


def write_store(
    folder: Path,
    dataset: Any,
    dataset_cfg: Any,
    decisions: dict[str, TeacherDecision],
    features: Any,
    views: int = 2,
    kept: int = 3,
    grid: tuple[int, int] = (4, 4),
    logits: int | None = None,
    **facts: Any,
) -> Path:
    """Store what decisions say of the views of a data set.

    Args:
        folder: Where to.
        dataset: Its images.
        dataset_cfg: Its config.
        decisions: By the names of the KD layers.
        features: Gives the teacher's feature maps (1, D, H, W) by layer, of the ``inputs`` of a view.
        views: V.
        kept: k, of centroids.
        grid: H, W.
        logits: How many ``features(...)['logits']`` (1, C) are kept.
        **facts: Entries of the manifest in the place of those that are found.
    """
    layers = {}
    (folder / 'decisions').mkdir(parents=True)
    for name, decision in decisions.items():
        file = folder / 'decisions' / f'{name}.safetensors'
        decision.save(file)
        layers[name] = dict(
            kind=type(decision).__name__,
            settings=decision.options(),
            templates=decision.num_templates,
            grid=list(grid),
            top_k=None if isinstance(decision, SubclassDecision) else kept,
            tables=hash_decision(decision),
            file=f'decisions/{name}.safetensors',
            bytes=file.stat().st_size,
            sha256=hash_file(file),
        )
    kept_logits = logits and dict(classes=3, top_k=logits, sources=['head', 'head.fc'])
    plan = dict(
        images=len(dataset),
        views=views,
        seed=7,
        shard_images=5,
        kd_layers=layers,
        logits=kept_logits,
    )
    plan.update(
        fields=make_fields(layers, kept_logits),
        **{**describe_drawing(dataset, dataset_cfg), **facts},
    )
    writer = Writer(folder, plan)
    writer.start()
    for shard in writer.shards:
        records = np.zeros(shard.images, writer.record)
        for place in range(shard.images):
            rendered = render_view(dataset, shard.first + place, shard.view, 7)
            records[place]['hash'] = hash_view(rendered['inputs'])
            maps = features(rendered['inputs'])
            for name, decision in decisions.items():
                label = rendered['data_samples'].gt_label
                found = decision.decide(maps[name], label, grid)
                if isinstance(decision, SubclassDecision):
                    records[place][f'{name}.rows'] = rows_of_table(found, decision.decisions)
                else:
                    known, index = found.topk(kept, dim=1)
                    records[place][f'{name}.rows'] = index[0].permute(1, 2, 0)
                    records[place][f'{name}.probabilities'] = known[0].permute(1, 2, 0)
            if logits:
                values, index = maps['logits'][0].topk(logits)
                others = [v for i, v in enumerate(maps['logits'][0].tolist()) if i not in index]
                mean = sum(map(math.exp, others)) / max(1, len(others))
                records[place]['logits.values'], records[place]['logits.rows'] = values, index
                records[place]['logits.rest'] = math.log(mean) if others else 0
        writer.save(shard, records)
    writer.finish()
    return folder


def rows_of_table(found: Tensor, table: Tensor) -> np.ndarray:
    """Which row of a table the probabilities (1, K, H, W) are at each position, (H, W)."""
    table = table.to_dense()
    distances = torch.cdist(found[0].flatten(1).t(), table)
    return distances.argmin(1).view(found.shape[2:]).numpy()


def loss_error(rest: float, score_range: float, templates: int) -> float:
    """How much the KL divergence of a position changes at most, in nats.

    ``rest`` is r of the position, or the mean over positions for the mean of the loss;
    ``score_range`` the largest score minus the smallest, at most; ``templates`` K.
    """
    if rest <= 0:
        return 0.0
    mixed = min(rest, 1 - 1 / templates)  # where the bound of the entropy is largest
    entropy = 0.0
    if mixed > 0:
        entropy = mixed * math.log(max(1, templates - 1)) - mixed * math.log(mixed)
        entropy -= (1 - mixed) * math.log1p(-mixed)
    return rest * score_range + entropy


def spread(rows: Tensor, kept: Tensor, templates: int) -> Tensor:
    """Distributions p' (M, K), float32, from rows and probabilities (M, k) as they are stored."""
    values = kept.float()
    rest = (1 - values.sum(1, keepdim=True)).clamp(min=0)
    dense = (rest / max(1, templates - rows.size(1))).repeat(1, templates)
    return dense.scatter_(1, rows.long(), values)
