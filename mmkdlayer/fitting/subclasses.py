"""Fitting of the teacher's decisions over sub-classes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import torch
from torch import Tensor

from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.models.decisions import SubclassDecision

from .decision_table import fit_decisions, fit_prototypes
from .distributed import (
    errors_on_all_ranks,
    first_rank_decides,
    from_first_rank,
    total_on_this_machine,
)
from .fitter import Fitter, State
from .fitters import Batches, run_fitters
from .grouped_kmeans import grouped_kmeans
from .lda import ClassStatistics, fit_lda
from .progress import Progress
from .projected_features import STEP, ProjectedFeatures, make_folder
from .sampling import make_sample

_NAMED = 5


def fit_subclasses(
    batches: Batches,
    num_classes: int,
    num_subclasses: int = 8,
    num_components: int = 60,
    *,
    progress: Optional[Progress] = None,
    **options: Any,
) -> SubclassDecision:
    """Fit a teacher's decisions over sub-classes with one :class:`SubclassFitter`.

    ``batches`` of features (B, D, H, W) and labels (B,), and ``progress``, are as for
    :func:`run_fitters`, the other arguments those of the fitter.

    Raises:
        DataError: A class without enough positions, a label out of range, or features that cannot
            be used.
        ConfigError: ``cache_dir``, its disk or ``memory_budget`` is too small, or a map has one
            position and ``size`` more.
    """
    fitter = SubclassFitter(num_classes, num_subclasses, num_components, **options)
    return run_fitters(batches, {'inter': fitter}, progress)['inter']


@dataclass(eq=False)
class SubclassFitter(Fitter):
    """LDA, sub-classes and their decision table (docs/method.md, section 2b), in two teacher passes.

    The first pass gives the statistics for the projection, the second stores projected features on
    disk; the rest is done from there. Two passes, because the projection depends on all the data
    and the features before it are too large to store.

    Args:
        num_classes: C.
        num_subclasses: M.
        num_components: Upper limit of L; L = min(num_components, C - 1, rank of the features).
        seed: Chooses the sample for k-means and its first centers.
        memory_budget: Bytes of host memory that sampled vectors may take on each rank; all the
            vectors are used when they fit.
        size: (h, w) to which larger teacher maps are average-pooled.
        cache_dir: Directory for the stored features, 4 L + 4 bytes a position; None is the system's
            for temporary files.
        cache_name: Name of their file there, which stays for :meth:`restore`; its directory is to
            be removed by the caller. None: nothing stays.
        class_names: Names of the classes, for messages.
        small_classes: Whether a class may have fewer positions than sub-classes, or none: some of its
            sub-classes are equal then, or stay unused.

    Raises:
        ConfigError: A number is too small, or ``cache_dir`` cannot be written to.
    """

    num_classes: int
    num_subclasses: int = 8
    num_components: int = 60
    seed: int = 0
    memory_budget: int = 1 << 30
    size: Optional[tuple[int, int]] = None
    cache_dir: Optional[str] = None
    cache_name: Optional[str] = None
    class_names: Optional[Sequence[str]] = None
    small_classes: bool = False

    def __post_init__(self) -> None:
        if self.num_classes < 2 or self.num_subclasses < 1 or self.num_components < 1:
            raise ConfigError(
                'Sub-classes need num_classes of 2 or more and num_subclasses and num_components of 1 '
                f'or more, but got {self.num_classes}, {self.num_subclasses} and '
                f'{self.num_components}.'
            )
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ConfigError(
                f'class_names has {len(self.class_names)} names for num_classes={self.num_classes}.'
            )
        self._begin(2, self.num_classes)
        self._statistics: Optional[ClassStatistics] = None
        self._projected: Optional[ProjectedFeatures] = None
        # Of this rank, in the first pass.
        self._own_positions = 0
        # Made now, so that a bad cache_dir does not fail after the first pass.
        self._folder = make_folder(self.cache_dir)
        folder = Path(self._folder.name)
        self._path = folder.parent / self.cache_name if self.cache_name else folder / 'features'

    def _start(self) -> None:
        self._statistics = ClassStatistics.zeros(self.num_classes, self._channels, self._device)

    def _add(self, pass_index: int, positions: Tensor, labels: Optional[Tensor]) -> None:
        labels = _check_labels(labels, len(positions), self.num_classes)
        labels = labels.long()
        counts = torch.bincount(labels, minlength=self.num_classes)
        self._counts[pass_index] += positions.shape[1] * counts
        if self._projected is None:
            assert self._statistics is not None
            self._statistics.update(positions, labels)
            return
        assert self._sample is not None
        hashes = self._hashes(positions).flatten()
        offsets = self._projected.write(positions, labels)
        groups = labels.repeat_interleave(positions.shape[1])
        self._sample.add((offsets * STEP).flatten(0, 1), hashes, groups)

    def _finish(self, pass_index: int) -> Optional[SubclassDecision]:
        if self._projected is not None:
            return self._fit_tables()
        self._fit_projection()
        return None

    def _fit_projection(self) -> None:
        self._check_counts()
        assert self._statistics is not None
        statistics, self._statistics = self._statistics, None
        self._own_positions = int(statistics.counts.sum())
        statistics.merge_ranks()

        def fit() -> tuple[Tensor, Tensor, Tensor]:
            found = (part.float() for part in fit_lda(statistics, self.num_components))
            projection, offset = found
            means = statistics.means().cpu() @ projection.double().t() + offset.double()
            return projection, offset, means

        # By one LAPACK: another one may find another number of directions.
        projection, offset, means = from_first_rank(fit)
        positions = total_on_this_machine(self._own_positions)
        with errors_on_all_ranks():
            self._sample = make_sample(
                self.memory_budget, len(offset), self.num_classes, self.num_subclasses
            )
            self._sample.make_room(self._own_positions)
            found = dict(projection=projection, offset=offset, means=means)
            self._store_projected(positions, found)

    def _store_projected(self, positions: int, projected: State) -> None:
        """Begin or continue to store features on the disk; ``projected`` are the arguments."""
        tensors = {name: tensor.to(self._device) for name, tensor in projected.items()}
        self._projected = ProjectedFeatures(**tensors, path=self._path, positions=positions)

    def _check_counts(self) -> None:
        counts = self._counts[0]
        few = (counts < self.num_subclasses).nonzero().squeeze(1).tolist()
        empty = [index for index in few if counts[index] == 0]
        allow = 'or allow it, with FitDecisionsHook(small_classes=True)'
        if empty and self.small_classes:
            warnings.warn(
                f'No image of class {self._names(empty)} in the data: its sub-classes stay unused.',
                stacklevel=2,
            )
        elif empty:
            raise DataError(
                f'No image of class {self._names(empty)} in the data, but the sub-classes of every '
                f'one of the {self.num_classes} classes are fitted. Add images of each class, set '
                f'num_classes to what the data holds, {allow}: its sub-classes stay unused then.'
            )
        if few and not self.small_classes:
            raise DataError(
                f'Class {self._names(few)} has fewer positions than num_subclasses='
                f'{self.num_subclasses} (the first has {int(counts[few[0]])}). Add images, set '
                f'num_subclasses lower, {allow}: some of its sub-classes are equal then.'
            )

    def _names(self, classes: list[int]) -> str:
        names = [
            str(index) if self.class_names is None else f'{index} ({self.class_names[index]!r})'
            for index in classes[:_NAMED]
        ]
        more = len(classes) - len(names)
        return ', '.join(names) + (f' and {more} more' if more else '')

    def _fit_tables(self) -> SubclassDecision:
        assert self._projected is not None and self._sample is not None
        sample, self._sample = self._sample.collect(), None
        device = self._device
        offsets, equal = grouped_kmeans(*sample, self.num_subclasses, device=device, seed=self.seed)
        del sample
        if equal.any():
            warnings.warn(
                f'Class {self._names(equal.nonzero().squeeze(1).tolist())} has fewer distinct '
                f'positions than num_subclasses={self.num_subclasses}: some of its sub-classes are '
                'equal.',
                stacklevel=2,
            )
        projected = self._projected
        centers = (offsets + projected.means.cpu()[:, None]).flatten(0, 1).float().to(device)
        prototypes = first_rank_decides(fit_prototypes(projected, centers))
        decisions = fit_decisions(projected, centers, prototypes, self._counts[0] > 0)
        self.close()
        return SubclassDecision.from_tables(
            projected.projection.cpu(),
            projected.offset.cpu(),
            centers.cpu(),
            decisions,
            self.num_classes,
            prototypes.cpu(),
            self.num_components,
        )

    def _state(self) -> State:
        state: State = dict(own_positions=torch.tensor(self._own_positions))
        if self._statistics is not None:
            state['statistics'] = vars(self._statistics)
        if self._projected is not None:
            state['projected'] = self._projected.state()
        return state

    def _restore(self, state: State) -> None:
        self._own_positions = int(state['own_positions'])
        if 'statistics' in state:
            found = {name: part.to(self._device) for name, part in state['statistics'].items()}
            self._statistics = ClassStatistics(**found)
        if 'projected' in state:
            # The other ranks of the machine have written parts of theirs too: each looks for its own.
            self._store_projected(self._own_positions, state['projected'])

    def close(self) -> None:
        """Release memory and remove the stored features."""
        super().close()
        if self._projected is not None:
            self._projected.close()
            self._projected = None
        with suppress(OSError):  # what ended the fitting is to be told
            self._folder.cleanup()


def _check_labels(labels: Optional[Tensor], num_images: int, num_classes: int) -> Tensor:
    """The labels (B,) of one batch on the CPU, or an error: integers in [0, C) are expected."""
    if labels is None:
        raise DataError('Sub-classes need the label of every image, but the data gives none.')
    if labels.shape != (num_images,) or labels.is_floating_point() or labels.is_complex():
        raise DataError(
            f'Labels must be {num_images} class indices, one an image, but have shape '
            f'{tuple(labels.shape)} and type {labels.dtype}. Fit without label mixing.'
        )
    labels = labels.cpu()
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        raise DataError(
            f'Label {int(wrong[0])} is outside of the {num_classes} classes 0 to '
            f'{num_classes - 1}. Set num_classes to what the data set holds, or fix its labels.'
        )
    return labels
