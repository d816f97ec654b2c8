"""Linear discriminant analysis of labelled features, from statistics of one streamed pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmkdlayer.errors import DataError

from .distributed import sum_over_ranks
from .numerics import rows_per_chunk

# Singular values below this share of the standardised within-class spread are no direction: the
# tolerance of scikit-learn's solver 'svd'.
_TOLERANCE = 1e-4
# A channel whose within-class spread is below float32 resolution of its values is constant.
_CONSTANT = 1e-7


def fit_lda(statistics: ClassStatistics, num_components: int) -> tuple[Tensor, Tensor]:
    """Fit the discriminant directions (docs/method.md, section 2b, step 1).

    Whitens the within-class covariance, standardised by channel, and keeps the directions with the
    largest spread of the class means, so that the within-class variance of each component of z is
    one. Constant and collinear channels are dropped, as scikit-learn's solver 'svd' does; a class
    without positions counts for nothing. Signs are fixed by making the largest weight of each
    component positive.

    Returns:
        A (L, D) and b (L,), float64, of z = A f + b, whose mean is zero: the
        L = min(num_components, C - 1, rank) directions, strongest first; C classes have positions.

    Raises:
        DataError: The features do not vary within the classes, or not between them.
    """
    counts = statistics.counts.double()
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
    length = min(num_components, int((counts > 0).sum()) - 1, rank)
    if length < 1 or sizes[0] <= _TOLERANCE:
        raise DataError(
            'The teacher features have the same mean in every class, so they hold no discriminant '
            'direction. Check the labels and that the layer read from the teacher is the right one.'
        )
    projection = (whitening @ directions[:length].t()).t()
    largest = projection.gather(1, projection.abs().argmax(1, keepdim=True))
    projection = (projection * largest.sign()).contiguous()
    return projection, -projection @ mean


@dataclass
class ClassStatistics:
    """Counts and sums of each class and the scatter of all positions, accumulated in float64.

    The scatter is kept about the running mean and partial scatters are merged with the pairwise
    update of Chan, Golub and LeVeque (1979), so that a mean far from zero costs no precision.
    """

    #: (C,), int64, positions of each class; on the CPU, where their number is looked at.
    counts: Tensor
    sums: Tensor  #: (C, D), float64
    mean: Tensor  #: (D,), float64, of all positions
    scatter: Tensor  #: (D, D), float64, sum of (x - mean)(x - mean)^T over all positions

    def __post_init__(self) -> None:
        self.counts = self.counts.cpu()

    @classmethod
    def zeros(cls, num_classes: int, channels: int, device: torch.device) -> ClassStatistics:
        """Statistics of no positions."""
        sizes = ((num_classes, channels), (channels,), (channels, channels))
        tensors = (torch.zeros(size, dtype=torch.float64, device=device) for size in sizes)
        return cls(torch.zeros(num_classes, dtype=torch.int64), *tensors)

    def update(self, features: Tensor, labels: Tensor) -> None:
        """Add positions (B, P, D), float32, of classes (B,), int64, on the CPU."""
        positions, channels = features.shape[1:]
        step = rows_per_chunk(positions * channels, features.device)
        number = int(self.counts.sum())
        self.counts += positions * torch.bincount(labels, minlength=len(self.counts))
        for rows, own in zip(features.split(step), labels.to(features.device).split(step)):
            part = rows.double()
            # Accumulating with index_put_ sorts on a GPU, where index_add_ adds in any order.
            self.sums.index_put_((own,), part.sum(1), accumulate=True)
            rows = part.view(-1, channels)
            mean = rows.mean(0)
            rows -= mean
            total = number + len(rows)
            shift = mean - self.mean
            self.scatter += rows.t() @ rows
            self.scatter.addr_(shift, shift, alpha=number * len(rows) / total)
            self.mean += shift * (len(rows) / total)
            number = total

    def merge_ranks(self) -> None:
        """Make the statistics those of all ranks, on every rank."""
        number = int(self.counts.sum())
        total = max(1, int(sum_over_ranks(self.counts).sum()))
        mean = sum_over_ranks(self.mean * (number / total))
        shift = self.mean - mean
        self.scatter.addr_(shift, shift, alpha=number)
        self.mean = mean
        sum_over_ranks(self.scatter)
        sum_over_ranks(self.sums)

    def means(self) -> Tensor:
        """The mean of each class, (C, D); that of all positions for a class that has none."""
        counts = self.counts.to(self.sums.device)[:, None]
        return torch.where(counts > 0, self.sums / counts.clamp(min=1), self.mean)

    def within_scatter(self) -> Tensor:
        """Scatter of the positions about the mean of their own class, (D, D)."""
        offsets = self.means() - self.mean
        weighted = offsets * self.counts.to(offsets.device)[:, None]
        return self.scatter - weighted.t() @ offsets
