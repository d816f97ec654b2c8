"""Fitting of the teacher's decisions over sub-classes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional

import torch
from torch import Tensor

from mmkdlayer.errors import ConfigError, DataError

from .cache import ProjectionCache, bytes_needed, make_folder
from .decision_table import StoredPositions, fit_decisions, fit_prototypes
from .distributed import (
    errors_on_all_ranks,
    first_rank_decides,
    largest_over_ranks,
    sum_over_ranks,
    total_on_this_machine,
)
from .features import FeatureReader, check_labels, check_same_data
from .grouped_kmeans import grouped_kmeans
from .hashing import position_hashes
from .lda import fit_lda
from .numerics import full_precision
from .progress import Progress
from .projection import STEP, ProjectedSpace
from .sampling import HashSample
from .states import prefixed, under
from .statistics import ClassStatistics

if TYPE_CHECKING:
    from mmkdlayer.models.decisions import SubclassDecision

_HASH_BYTES = 12
_NAMED = 5


class SubclassFitter:
    """LDA, sub-classes and their decision table (method, section 2b), in two teacher passes.

    The first pass gives the statistics for the projection, the second stores projected features on
    disk; the rest is done from there. Two passes, because the projection depends on all the data
    and the features before it are too large to store.

    Args:
        num_classes: C.
        num_subclasses: M.
        num_components: Upper limit of L.
        seed: Chooses the sample for k-means and its first centers.
        memory_budget: Bytes of host memory that sampled vectors may take on each rank.
        size: (h, w) to which larger teacher maps are average-pooled.
        cache_dir: Directory for the stored features, 4 L bytes a position; None is the system's.
        cache_name: Name of their file there, which stays for :meth:`restore`; its directory is to
            be removed by the caller. None: nothing stays.
        class_names: Names of the classes, for messages.
        progress: See :class:`~mmkdlayer.fitting.progress.Progress`.

    Raises:
        ConfigError: A number is too small, or ``cache_dir`` cannot be written to.
    """

    num_passes = 2

    def __init__(
        self,
        num_classes: int,
        num_subclasses: int = 8,
        num_components: int = 60,
        *,
        seed: int = 0,
        memory_budget: int = 1 << 30,
        size: Optional[tuple[int, int]] = None,
        cache_dir: Optional[str] = None,
        cache_name: Optional[str] = None,
        class_names: Optional[Sequence[str]] = None,
        progress: Optional[Progress] = None,
    ) -> None:
        if num_classes < 2 or num_subclasses < 1 or num_components < 1:
            raise ConfigError(
                'Sub-classes need num_classes of 2 or more and num_subclasses and num_components '
                f'of 1 or more, but got {num_classes}, {num_subclasses} and {num_components}.'
            )
        if class_names is not None and len(class_names) != num_classes:
            raise ConfigError(
                f'class_names has {len(class_names)} names for num_classes={num_classes}.'
            )
        self.num_classes = num_classes
        self.num_subclasses = num_subclasses
        self.num_components = num_components
        self.seed = seed
        self.memory_budget = memory_budget
        self.cache_dir = cache_dir
        self.cache_name = cache_name
        self.class_names = class_names
        self.progress = progress
        self._reader = FeatureReader(size)
        self._statistics: Optional[ClassStatistics] = None
        self._own_positions = 0
        self._counts = torch.zeros(num_classes, dtype=torch.int64)
        self._second_counts = torch.zeros(num_classes, dtype=torch.int64)
        self._space: Optional[ProjectedSpace] = None
        self._cache: Optional[ProjectionCache] = None
        self._sample: Optional[HashSample] = None
        self._tables: Optional[dict[str, Any]] = None
        make_folder(cache_dir).cleanup()  # a bad cache_dir fails now, not after the first pass

    def update(self, pass_index: int, features: Tensor, labels: Tensor) -> None:
        """Take in a batch: features (B, D, H, W) and labels (B,), int64."""
        check_labels(labels, len(features), self.num_classes)
        positions = self._reader.read(features)
        labels = labels.to(positions.device).long()
        if pass_index == 0:
            if self._statistics is None:
                self._statistics = self._make_statistics(positions.shape[2])
            self._statistics.update(positions, labels)
            self._own_positions += positions.shape[0] * positions.shape[1]
        else:
            self._store(positions, labels)

    def _make_statistics(self, channels: int) -> ClassStatistics:
        return ClassStatistics(self.num_classes, channels, self._reader.device)

    def _store(self, positions: Tensor, labels: Tensor) -> None:
        assert self._space is not None and self._cache is not None and self._sample is not None
        offsets = self._space.store(positions, labels)
        self._cache.write(offsets, labels)
        groups = labels[:, None].expand(positions.shape[:2]).flatten()
        hashes = position_hashes(positions, self.seed).flatten()
        self._sample.add((offsets * STEP).flatten(0, 1), hashes, groups)
        self._second_counts += torch.bincount(groups, minlength=self.num_classes).cpu()

    def finish_pass(self, pass_index: int) -> None:
        """Work on what the pass has given; all ranks must call it.

        Raises:
            DataError: A class without enough positions, features without discriminant direction, or
                other data in the second pass than in the first.
            ConfigError: The disk or ``memory_budget`` is too small.
        """
        with full_precision(self._reader.device):
            if pass_index == 0:
                self._fit_projection()
            else:
                self._fit_tables()

    def _fit_projection(self) -> None:
        channels = largest_over_ranks(self._reader.channels)
        with errors_on_all_ranks():
            self._reader.check_channels(channels)
        statistics = self._statistics or self._make_statistics(channels)
        self._statistics = None
        statistics.merge_ranks()
        self._counts = statistics.counts.cpu()
        self._check_counts()
        projection, offset = (
            first_rank_decides(part.float()) for part in fit_lda(statistics, self.num_components)
        )
        means = statistics.means().cpu() @ projection.double().t() + offset.double()
        first_rank_decides(means)
        length, device = len(offset), self._reader.device
        self._space = ProjectedSpace(projection.to(device), offset.to(device), means.to(device))
        needed = total_on_this_machine(bytes_needed(self._own_positions, length))
        with errors_on_all_ranks():
            self._sample = self._make_sample(length)
            self._cache = ProjectionCache(length, self.cache_dir, needed, self.cache_name)

    def _make_sample(self, length: int) -> HashSample:
        capacity = self.memory_budget // (self.num_classes * (4 * length + _HASH_BYTES))
        if capacity < self.num_subclasses:
            raise ConfigError(
                f'A memory_budget of {self.memory_budget} bytes holds {capacity} vectors a class, '
                f'fewer than the {self.num_subclasses} sub-classes to fit. Raise memory_budget.'
            )
        # No more than there is, so that a large budget reserves nothing for small data.
        capacity = min(capacity, int(self._counts.max()))
        return HashSample(capacity, length, torch.float32, self.num_classes)

    def _check_counts(self) -> None:
        few = (self._counts < self.num_subclasses).nonzero().squeeze(1).tolist()
        if not few:
            return
        empty = [index for index in few if self._counts[index] == 0]
        if empty:
            raise DataError(
                f'No image of class {self._names(empty)} in the data, but the sub-classes of every '
                f'one of the {self.num_classes} classes are fitted. Add images of each class or '
                'set num_classes to what the data holds.'
            )
        raise DataError(
            f'Class {self._names(few)} has fewer positions than num_subclasses='
            f'{self.num_subclasses} (the first has {int(self._counts[few[0]])}). Add images or set '
            'num_subclasses lower.'
        )

    def _names(self, classes: list[int]) -> str:
        names = [
            str(index) if self.class_names is None else f'{index} ({self.class_names[index]!r})'
            for index in classes[:_NAMED]
        ]
        more = len(classes) - len(names)
        return ', '.join(names) + (f' and {more} more' if more else '')

    def _fit_tables(self) -> None:
        assert self._space is not None and self._cache is not None and self._sample is not None
        check_same_data(self._counts, sum_over_ranks(self._second_counts))
        rows, counts = self._sample.collect()
        self._sample = None
        device = self._reader.device
        found = grouped_kmeans(
            rows,
            counts,
            self.num_subclasses,
            device=device,
            seed=self.seed,
            progress=self.progress,
        )
        del rows
        self._warn_of_equal_centers(found.degenerate)
        centers = (found.centers + self._space.means.cpu()[:, None]).flatten(0, 1).float()
        positions = StoredPositions(self._cache, self._space, centers, device, self.progress)
        prototypes = first_rank_decides(fit_prototypes(positions))
        decisions = fit_decisions(positions, prototypes)
        self._tables = {
            'projection': self._space.projection.cpu(),
            'offset': self._space.offset.cpu(),
            'centers': centers,
            'decisions': decisions,
            'num_classes': self.num_classes,
            'prototypes': prototypes.cpu(),
        }
        self.close()

    def _warn_of_equal_centers(self, degenerate: Tensor) -> None:
        classes = degenerate.nonzero().squeeze(1).tolist()
        if classes:
            warnings.warn(
                f'Class {self._names(classes)} has fewer distinct positions than num_subclasses='
                f'{self.num_subclasses}: some of its sub-classes are equal.',
                stacklevel=2,
            )

    def state(self) -> dict[str, Tensor]:
        """What the passes so far have given, as tensors by name; the cache is on disk by then."""
        state = dict(self._reader.state(), own_positions=torch.tensor(self._own_positions))
        if self._statistics is not None:
            state.update(prefixed('statistics', self._statistics.state()))
        if self._space is not None:
            assert self._cache is not None and self._sample is not None
            state.update(prefixed('space', self._space._asdict()))
            state.update(prefixed('sample', self._sample.state()))
            state.update(
                counts=self._counts,
                second_counts=self._second_counts,
                cache=self._cache.state(),
            )
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` gave; needs the ``cache_name`` and ``cache_dir`` of then.

        Raises:
            DataError: The stored features are not there.
        """
        self._reader.restore(state)
        self._own_positions = int(state['own_positions'])
        device = self._reader.device
        statistics, space = under('statistics', state), under('space', state)
        if statistics:
            self._statistics = self._make_statistics(self._reader.channels)
            self._statistics.restore(statistics)
        if space:
            self._space = ProjectedSpace(**{key: space[key].to(device) for key in space})
            self._counts, self._second_counts = state['counts'], state['second_counts']
            length = len(self._space.offset)
            self._sample = self._make_sample(length)
            self._sample.restore(under('sample', state))
            # The other ranks of the machine have written parts of theirs too: each looks for its own.
            needed = bytes_needed(self._own_positions, length)
            self._cache = ProjectionCache(
                length, self.cache_dir, needed, self.cache_name, state['cache']
            )

    def tables(self) -> dict[str, Any]:
        """The arguments of ``SubclassDecision.from_tables``; known after the last pass."""
        assert self._tables is not None, 'finish_pass(1) comes first'
        return self._tables

    def result(self) -> SubclassDecision:
        """The decision, known after the last pass."""
        from mmkdlayer.models.decisions import SubclassDecision

        return SubclassDecision.from_tables(**self.tables(), num_components=self.num_components)

    def close(self) -> None:
        """Let go of the collected vectors and remove the stored features."""
        self._sample = None
        if self._cache is not None:
            self._cache.close()
            self._cache = None
