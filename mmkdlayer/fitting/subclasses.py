"""Fitting of the teacher's decisions over sub-classes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
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
    sum_over_ranks,
    total_on_this_machine,
)
from .features import FeatureReader, check_labels, check_same_data
from .fitters import Batches, run_fitters
from .grouped_kmeans import grouped_kmeans
from .lda import ClassStatistics, fit_lda
from .numerics import exact_float32
from .progress import Progress
from .projected_features import STEP, ProjectedFeatures, bytes_needed, make_folder
from .sampling import HashSample, position_hashes, sample_capacity
from .saved_state import State

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
    """Fit a teacher's decisions over sub-classes at an intermediate layer (docs/method.md, section 2b).

    Args:
        batches: Gives (features (B, D, H, W), labels (B,)); iterated twice, with the same data. In
            a distributed run every rank gives its own share.
        num_classes: C.
        num_subclasses: M.
        num_components: Upper limit of L; L = min(num_components, C - 1, rank of the features).
        progress: Makes the bar of each stage, such as ``tqdm.tqdm``; None is silent.
        **options: ``seed``, ``memory_budget``, ``size``, ``cache_dir`` and ``class_names`` as for
            :class:`SubclassFitter`.

    Returns:
        The fitted decision, the same on every rank.

    Raises:
        DataError: A class without enough positions, a label out of range, or features that cannot
            be used.
        ConfigError: ``cache_dir``, its disk or ``memory_budget`` is too small, or a map is smaller
            than ``size``.
    """
    fitter = SubclassFitter(num_classes, num_subclasses, num_components, **options)
    return run_fitters(batches, {'inter': fitter}, progress)['inter']


@dataclass(eq=False)
class SubclassFitter:
    """LDA, sub-classes and their decision table (docs/method.md, section 2b), in two teacher passes.

    The first pass gives the statistics for the projection, the second stores projected features on
    disk; the rest is done from there. Two passes, because the projection depends on all the data
    and the features before it are too large to store.

    Args:
        num_classes: C.
        num_subclasses: M.
        num_components: Upper limit of L.
        seed: Chooses the sample for k-means and its first centers.
        memory_budget: Bytes of host memory that sampled vectors may take on each rank; all the
            vectors are used when they fit.
        size: (h, w) to which larger teacher maps are average-pooled.
        cache_dir: Directory for the stored features, 4 L + 4 bytes a position; None is the system's
            for temporary files.
        cache_name: Name of their file there, which stays for :meth:`restore`; its directory is to
            be removed by the caller. None: nothing stays.
        class_names: Names of the classes, for messages.

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
        self.num_passes = 2
        self._reader = FeatureReader(self.size)
        self._statistics: Optional[ClassStatistics] = None
        # Positions of each class on all ranks, in the first pass and in the second.
        self._counts = torch.zeros(self.num_classes, dtype=torch.int64)
        self._second_counts = torch.zeros(self.num_classes, dtype=torch.int64)
        self._own_positions = 0
        self._projected: Optional[ProjectedFeatures] = None
        self._sample: Optional[HashSample] = None
        # Made now, so that a bad cache_dir does not fail after the first pass.
        self._folder = make_folder(self.cache_dir)
        folder = Path(self._folder.name)
        self._path = folder.parent / self.cache_name if self.cache_name else folder / 'features'

    def update(self, pass_index: int, features: Tensor, labels: Optional[Tensor]) -> None:
        """Take in a batch: features (B, D, H, W) and labels (B,), int64."""
        labels = check_labels(labels, len(features), self.num_classes)
        positions = self._reader.read(features)
        labels = labels.to(positions.device).long()
        if pass_index == 0:
            if self._statistics is None:
                self._statistics = self._no_statistics()
            self._statistics.update(positions, labels)
            return
        assert self._projected is not None and self._sample is not None
        offsets = self._projected.write(positions, labels)
        groups = labels[:, None].expand(positions.shape[:2]).flatten()
        hashes = position_hashes(positions, self.seed).flatten()
        self._sample.add((offsets * STEP).flatten(0, 1), hashes, groups)
        self._second_counts += torch.bincount(groups, minlength=self.num_classes).cpu()

    def _no_statistics(self) -> ClassStatistics:
        return ClassStatistics.zeros(self.num_classes, self._reader.channels, self._reader.device)

    def finish_pass(self, pass_index: int) -> Optional[SubclassDecision]:
        """Work on what the pass has given; all ranks must call it.

        Returns:
            The decision after the last pass, else None.

        Raises:
            DataError: A class without enough positions, features without discriminant direction, or
                other data in the second pass than in the first.
            ConfigError: The disk or ``memory_budget`` is too small.
        """
        with exact_float32(self._reader.device):
            if pass_index == 0:
                self._fit_projection()
                return None
            return self._fit_tables()

    def _fit_projection(self) -> None:
        self._reader.merge_ranks()
        statistics, self._statistics = self._statistics or self._no_statistics(), None
        self._own_positions = int(statistics.counts.sum())
        statistics.merge_ranks()
        self._counts = statistics.counts.cpu()
        self._check_counts()
        projection, offset = (
            first_rank_decides(part.float()) for part in fit_lda(statistics, self.num_components)
        )
        means = statistics.means().cpu() @ projection.double().t() + offset.double()
        first_rank_decides(means)
        needed = total_on_this_machine(bytes_needed(self._own_positions, len(offset)))
        with errors_on_all_ranks():
            self._begin_second_pass(needed, dict(projection=projection, offset=offset, means=means))

    def _begin_second_pass(self, disk: int, projected: State) -> None:
        """Make room for the sample and for the projected features: these are their arguments."""
        length = len(projected['offset'])
        capacity = sample_capacity(
            self.memory_budget, length, self.num_classes, self.num_subclasses
        )
        # No more than there is, so that a large budget reserves nothing for small data.
        capacity = min(capacity, int(self._counts.max()))
        self._sample = HashSample(capacity, length, self.num_classes)
        tensors = {name: tensor.to(self._reader.device) for name, tensor in projected.items()}
        self._projected = ProjectedFeatures(**tensors, path=self._path, expected_bytes=disk)

    def _check_counts(self) -> None:
        few = (self._counts < self.num_subclasses).nonzero().squeeze(1).tolist()
        empty = [index for index in few if self._counts[index] == 0]
        if empty:
            raise DataError(
                f'No image of class {self._names(empty)} in the data, but the sub-classes of every '
                f'one of the {self.num_classes} classes are fitted. Add images of each class or '
                'set num_classes to what the data holds.'
            )
        if few:
            raise DataError(
                f'Class {self._names(few)} has fewer positions than num_subclasses='
                f'{self.num_subclasses} (the first has {int(self._counts[few[0]])}). Add images or '
                'set num_subclasses lower.'
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
        check_same_data(self._counts, sum_over_ranks(self._second_counts))
        sample, self._sample = self._sample.collect(), None
        device = self._reader.device
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
        decisions = fit_decisions(projected, centers, prototypes)
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

    def state(self) -> State:
        """What the passes so far have given: tensors by name, nested; the file is on disk by then."""
        state: State = dict(reader=self._reader.state())
        if self._statistics is not None:
            state['statistics'] = vars(self._statistics)
        if self._projected is not None and self._sample is not None:
            state.update(
                counts=self._counts,
                second_counts=self._second_counts,
                own_positions=torch.tensor(self._own_positions),
                projected=self._projected.state(),
                sample=self._sample.state(),
            )
        return state

    def restore(self, state: State) -> None:
        """Continue from what :meth:`state` gave; needs the ``cache_name`` and ``cache_dir`` of then.

        Raises:
            DataError: The stored features are not there.
        """
        self._reader.restore(state['reader'])
        if 'statistics' in state:
            device = self._reader.device
            found = {name: tensor.to(device) for name, tensor in state['statistics'].items()}
            self._statistics = ClassStatistics(**found)
        if 'projected' in state:
            self._counts, self._second_counts = state['counts'], state['second_counts']
            self._own_positions = int(state['own_positions'])
            # The other ranks of the machine have written parts of theirs too: each looks for its own.
            needed = bytes_needed(self._own_positions, len(state['projected']['offset']))
            self._begin_second_pass(needed, state['projected'])
            assert self._sample is not None
            self._sample.restore(state['sample'])

    def close(self) -> None:
        """Release the collected vectors and remove the stored features."""
        self._sample = None
        if self._projected is not None:
            self._projected.close()
            self._projected = None
        self._folder.cleanup()
