"""Linear discriminant analysis from sufficient statistics."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmkdlayer.errors import DataError

from .statistics import ClassStatistics

# Singular values below this share of the standardised within-class spread are no direction: the
# tolerance of scikit-learn's solver 'svd'.
_TOLERANCE = 1e-4
# A channel whose within-class spread is below float32 resolution of its values is constant.
_CONSTANT = 1e-7


class Projection(NamedTuple):
    """z = projection f + offset, float64: projection (L, D), offset (L,)."""

    projection: Tensor
    offset: Tensor


def fit_lda(statistics: ClassStatistics, num_components: int) -> Projection:
    """Fit the discriminant directions (method, section 2b, step 1).

    Whitens the within-class covariance, standardised by channel, and keeps the directions with the
    largest spread of the class means, so that the within-class variance of each component of z is
    one. Constant and collinear channels are dropped, as scikit-learn's solver 'svd' does. Signs are
    fixed by making the largest weight of each component positive.

    Args:
        statistics: Of all the data; every class has positions.
        num_components: Upper limit of L.

    Returns:
        L = min(num_components, C - 1, rank) directions, strongest first; z has zero mean.

    Raises:
        DataError: The features do not vary within the classes, or not between them.
    """
    counts = statistics.counts.double().cpu()
    number = counts.sum()
    within = statistics.within_scatter().cpu() / number
    mean = statistics.mean.cpu()
    variance = within.diagonal().clamp(min=0)
    square = statistics.scatter.diagonal().cpu() / number + mean.square()
    alive = (variance > _CONSTANT**2 * square).double()
    inverse_std = torch.where(alive > 0, variance.rsqrt(), 0.0)

    values, vectors = torch.linalg.eigh(within * inverse_std * inverse_std[:, None])
    kept = values > _TOLERANCE**2
    if not kept.any():
        raise DataError(
            'The teacher features do not vary within the classes, so no discriminant direction can '
            'be fitted. Check that the teacher is loaded and that the layer is not constant.'
        )
    whitening = inverse_std[:, None] * vectors[:, kept] * values[kept].rsqrt()

    spread = counts.sqrt()[:, None] * ((statistics.means().cpu() - mean) @ whitening)
    _, sizes, directions = torch.linalg.svd(spread, full_matrices=False)
    rank = int((sizes > _TOLERANCE * sizes[0]).sum())
    length = min(num_components, len(counts) - 1, rank)
    if length < 1 or sizes[0] <= _TOLERANCE:
        raise DataError(
            'The teacher features have the same mean in every class, so they hold no discriminant '
            'direction. Check the labels and that the layer read from the teacher is the right one.'
        )
    projection = (whitening @ directions[:length].t()).t()
    largest = projection.gather(1, projection.abs().argmax(1, keepdim=True))
    projection = (projection * largest.sign()).contiguous()
    return Projection(projection, -projection @ mean)
