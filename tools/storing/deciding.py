"""What is stored of a batch: the rows that the teacher's decisions are, and its logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmkdlayer.engine.feature_stream import FeatureStream
from mmkdlayer.engine.supervision import SupervisedLayer
from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.models.decisions import CentroidDecision, SubclassDecision
from mmkdlayer.models.decisions.sizes import resize_to
from mmkdlayer.models.decisions.table_targets import TableTargets
from mmkdlayer.models.evaluating import outputs_of
from mmkdlayer.models.labels import read_labels
from mmkdlayer.precision import float32_products

from .truncation import keep_top

Arrays = dict[str, np.ndarray]


def check_decision(layer: SupervisedLayer) -> None:
    """Raise a ConfigError where a decision is of a kind that has no rows."""
    if not isinstance(layer.decision, (SubclassDecision, CentroidDecision)):
        raise ConfigError(
            f'{layer.key}.decision: a {type(layer.decision).__name__} can not be stored, only a '
            'SubclassDecision or a CentroidDecision. Train this layer with the teacher.'
        )


@torch.no_grad()
def decide_batch(
    stream: FeatureStream, batch: Any, top_k: Mapping[str, int | None], logits: int | None
) -> Arrays:
    """Run the teacher on a batch of the stream's data loader.

    ``top_k`` says by layer how many templates are kept, None for rows of a table; ``logits`` how
    many of these.

    Returns:
        By field of a record an array (N, ...).

    Raises:
        ConfigError: The teacher gives no logits.
        DataError: An image has several classes.
    """
    features, samples, outputs = stream.run_teachers(batch)
    found: Arrays = {}
    for layer in stream.layers:
        feature, kept = resize_to(features[layer.name], layer.size), top_k[layer.name]
        if kept is None:
            found[f'{layer.name}.rows'] = _to_numpy(_table_rows(layer, feature, samples))
        else:
            columns, values = keep_top(probabilities(layer, feature), kept)
            shape = (len(feature), *layer.size, kept)
            found[f'{layer.name}.rows'] = _to_numpy(columns.view(shape))
            found[f'{layer.name}.probabilities'] = _to_numpy(values.view(shape))
    if logits is not None:
        found.update(_top_logits(check_logits(outputs), logits))
    return found


def probabilities(layer: SupervisedLayer, feature: Tensor) -> Tensor:
    """The decision about each position of the student's map, (N*H*W, K)."""
    return layer.decision.decide(feature, None, layer.size).permute(0, 2, 3, 1).flatten(0, 2)


def _table_rows(layer: SupervisedLayer, feature: Tensor, samples: list) -> Tensor:
    """The row of the table at each position, (N, H, W)."""
    decision = layer.decision
    decision.check_features(feature)
    label = decision.check_label(read_labels(samples).to(feature.device), len(feature))
    if label is not None and label.is_floating_point():
        if not bool(((label > 0).sum(1) == 1).all()):
            raise DataError(
                f'{layer.key}: an image has several classes (gt_score), so its decisions are mixtures '
                'of rows, which are not stored. Train this layer with the teacher, or give each image '
                'one class.'
            )
        label = label.argmax(1)
    with float32_products(feature.device, decision.precision):
        wide = feature.to(torch.promote_types(feature.dtype, torch.float32))
        targets = decision.row_targets(wide, label)
    assert isinstance(targets, TableTargets)
    return targets.index.view(len(feature), *layer.size)


def check_logits(outputs: Mapping[str, Any]) -> Tensor:
    """The logits (N, C) of the one teacher, or a ConfigError where there are several, or none."""
    found = list(outputs.values())
    if len(found) != 1 or not isinstance(found[0], Tensor) or found[0].dim() != 2:
        what = [f'{tuple(f.shape)}' if isinstance(f, Tensor) else type(f).__name__ for f in found]
        raise ConfigError(
            f'--logits expects one teacher that returns logits (N, C), but found {", ".join(what)}. '
            'Leave it out, or use a teacher with a classification head.'
        )
    return found[0].float()


@torch.no_grad()
def logit_modules(stream: FeatureStream, batch: Any) -> list[str]:
    """Names of the modules of the one teacher that return its logits, such as ``head.fc``.

    A distiller whose recorders read these alone can be given stored logits instead.
    """
    modules = {name: module for name, module in stream.models[0].named_modules() if name}
    with outputs_of(modules) as outputs:
        (logits,) = stream.run_teachers(batch)[2].values()
    return [name for name, output in outputs.items() if output is logits]


def _top_logits(logits: Tensor, k: int) -> Arrays:
    """The k largest logits, and the log of the mean of exp of the others."""
    values, columns = logits.topk(k, dim=1)
    others = logits.scatter(1, columns, float('-inf'))
    count = logits.size(1) - k
    rest = others.logsumexp(1) - np.log(max(1, count))
    return {
        'logits.rows': _to_numpy(columns),
        'logits.values': _to_numpy(values.half()),
        'logits.rest': _to_numpy((rest if count else torch.zeros_like(rest)).half()),
    }


def _to_numpy(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
