"""Section 3 of the page: how well classes are separated before and after each layer (letKD, table 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmkdlayer.engine.streamed_images import refuse_unreadable
from mmkdlayer.errors import DataError
from mmkdlayer.models.evaluating import evaluating

from .collecting import single_labels, watching
from .images import Images, bar
from .networks import Networks

INSTALL = "pip install 'mmkdlayer[report]'"


@dataclass(frozen=True)
class ProbeRow:
    """One line of the table: accuracies (0 to 1) of a linear discriminant on pooled features."""

    student: str
    layer: str
    alpha: float | None
    before: float
    after: float


def has_sklearn() -> bool:
    """Whether scikit-learn is installed."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        return False
    return True


@torch.no_grad()
def pooled_features(
    networks: Networks, images: Images
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Features averaged over each image's positions, before and after each layer, and the labels.

    They are by the layer's name two arrays (N, C), and labels (N,).

    Raises:
        DataError: Images have no single labels, or can't be read.
    """
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in networks.layers}
    labels = []
    classes = len(images.class_names(networks.student))
    loader = images.stream.loader
    with evaluating(networks.student), watching(networks) as watches:
        for batch in bar(loader, 'probe', len(loader)):
            refuse_unreadable(batch, ())
            data = networks.preprocessor(batch, False)
            networks.student(data['inputs'], mode='tensor')
            own, _ = single_labels(data.get('data_samples'), len(data['inputs']), classes)
            labels.append(own[own >= 0])
            for name, watch in watches.items():
                pair = (watch.x, watch.out)
                pooled = [one.float().mean((2, 3)).cpu().numpy()[own >= 0] for one in pair]
                found[name].append((pooled[0], pooled[1]))
    if not sum(map(len, labels)):
        raise DataError('The geometry probe needs images with one label each.')
    features = {
        name: (np.concatenate([a for a, _ in parts]), np.concatenate([b for _, b in parts]))
        for name, parts in found.items()
    }
    return features, np.concatenate(labels)


def probe(
    student: str,
    layers: Mapping[str, Any],
    train: tuple[dict[str, tuple[np.ndarray, np.ndarray]], np.ndarray],
    test: tuple[dict[str, tuple[np.ndarray, np.ndarray]], np.ndarray],
) -> list[ProbeRow]:
    """Fit a linear discriminant on the features of training images, and test it on others.

    ``train`` and ``test`` are as from :func:`pooled_features`; the student's KD layers tell their
    alpha.
    """
    rows = []
    for name, pair in train[0].items():
        shares = [
            discriminant_accuracy(pair[i], train[1], test[0][name][i], test[1]) for i in (0, 1)
        ]
        rows.append(ProbeRow(student, name, getattr(layers[name], 'alpha', None), *shares))
    return rows


def discriminant_accuracy(
    features: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray
) -> float:
    """Accuracy of scikit-learn's linear discriminant analysis with its default settings."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    found = LinearDiscriminantAnalysis().fit(features.astype(np.float64), labels)
    return float((found.predict(test.astype(np.float64)) == test_labels).mean())


def weakness(count: int, channels: int, classes: int) -> str:
    """Why a probe on so many training images says little; empty if it does not."""
    if count >= 10 * classes and count >= 2 * channels:
        return ''
    return (
        f'The geometry probe was fitted on {count:,} images for {classes:,} classes and up to '
        f'{channels:,} channels, which is few: take its figures with care, or raise --probe-images.'
    )
