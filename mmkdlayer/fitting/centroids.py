"""Fitting of the centroids of a penultimate layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

import torch
from torch import Tensor

from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.models.decisions import CentroidDecision

from .distributed import sum_over_ranks
from .features import FeatureReader, check_same_data
from .fitters import Batches, run_fitters
from .kmeans import StreamedStep, kmeans
from .progress import Progress
from .sampling import HashSample, position_hashes, sample_capacity
from .saved_state import State


def fit_centroids(
    batches: Batches, num_centroids: int, *, progress: Optional[Progress] = None, **options: Any
) -> CentroidDecision:
    """Fit the centroids of a teacher's penultimate layer (docs/method.md, section 2a).

    Args:
        batches: Gives (features (B, D, H, W), labels, which are not read); iterated once, and once
            more for each of ``streaming_passes``. In a distributed run every rank gives its own share.
        num_centroids: K.
        progress: Makes the bar of each stage, such as ``tqdm.tqdm``; None is silent.
        **options: ``temperature``, ``iterations``, ``seed``, ``memory_budget``, ``size`` and
            ``streaming_passes`` as for :class:`CentroidFitter`.

    Returns:
        The fitted decision, the same on every rank.

    Raises:
        DataError: Fewer vectors than centroids, or features that cannot be used.
        ConfigError: ``memory_budget`` is too small, or a map is smaller than ``size``.
    """
    fitter = CentroidFitter(num_centroids, **options)
    return run_fitters(batches, {'penult': fitter}, progress)['penult']


@dataclass(eq=False)
class CentroidFitter:
    """K-means over teacher vectors (docs/method.md, section 2a), in one pass over the teacher.

    All the vectors are clustered when they fit ``memory_budget``, else a seeded sample of them that
    depends on their content only; then each of ``streaming_passes`` more passes over the teacher is
    one step of k-means with all the vectors, whatever their number.

    Args:
        num_centroids: K.
        temperature: tau of the decision.
        iterations: Largest number of steps of k-means.
        seed: Chooses the sample and the first centroids.
        memory_budget: Bytes of host memory that sampled vectors may take on each rank; all the
            vectors are used when they fit.
        size: (h, w) to which larger teacher maps are average-pooled.
        streaming_passes: Steps with all the vectors after those with the sample.
    """

    num_centroids: int
    temperature: float = 1.0
    iterations: int = 25
    seed: int = 0
    memory_budget: int = 1 << 30
    size: Optional[tuple[int, int]] = None
    streaming_passes: int = 0

    def __post_init__(self) -> None:
        if self.num_centroids < 1 or self.iterations < 1 or self.streaming_passes < 0:
            raise ConfigError(
                'num_centroids and iterations must be 1 or more and streaming_passes 0 or more, but '
                f'are {self.num_centroids}, {self.iterations} and {self.streaming_passes}.'
            )
        self.num_passes = 1 + self.streaming_passes
        self._reader = FeatureReader(self.size)
        self._seen = torch.zeros(self.num_passes, 1, dtype=torch.int64)
        self._sample: Optional[HashSample] = None
        self._step: Optional[StreamedStep] = None
        self._centroids: Optional[Tensor] = None

    def update(self, pass_index: int, features: Tensor, labels: Optional[Tensor] = None) -> None:
        """Take in a batch of features (B, D, H, W); labels are not read."""
        positions = self._reader.read(features)
        vectors = positions.flatten(0, 1)
        self._seen[pass_index] += len(vectors)
        if pass_index == 0:
            self._sample = self._sample or self._make_sample()
            self._sample.add(vectors, position_hashes(positions, self.seed).flatten())
        else:
            self._step = self._step or self._make_step()
            self._step.update(vectors)

    def _make_sample(self) -> HashSample:
        channels = self._reader.channels
        capacity = sample_capacity(self.memory_budget, channels, 1, self.num_centroids)
        return HashSample(capacity, channels)

    def _make_step(self) -> StreamedStep:
        assert self._centroids is not None, 'finish_pass(0) comes first'
        return StreamedStep(self._centroids.to(self._reader.device))

    def finish_pass(self, pass_index: int) -> Optional[CentroidDecision]:
        """Cluster what the pass has given; all ranks must call it.

        Returns:
            The decision after the last pass, else None.

        Raises:
            DataError: Fewer vectors than centroids, or other data in a later pass.
        """
        sum_over_ranks(self._seen[pass_index])
        if pass_index == 0:
            self._centroids = self._cluster_sample()
        else:
            check_same_data(self._seen[0], self._seen[pass_index])
            self._centroids = (self._step or self._make_step()).finish().cpu()
            self._step = None
        if pass_index < self.num_passes - 1:
            return None
        return CentroidDecision.from_tables(self._centroids, float(self.temperature))

    def _cluster_sample(self) -> Tensor:
        self._reader.merge_ranks()
        if self._reader.channels == 0:
            raise DataError(
                'Fitting centroids got no feature at all. Check that data is not empty.'
            )
        sample, self._sample = self._sample or self._make_sample(), None
        centers = kmeans(
            sample.collect()[0].to(self._reader.device),
            self.num_centroids,
            iterations=self.iterations,
            seed=self.seed,
        )
        return centers.cpu()

    def state(self) -> State:
        """What the passes so far have given: tensors by name, nested."""
        state: State = dict(reader=self._reader.state(), seen=self._seen)
        if self._centroids is not None:
            state['centroids'] = self._centroids
        if self._sample is not None:
            state['sample'] = self._sample.state()
        if self._step is not None:
            state['step'] = dict(sums=self._step.sums, counts=self._step.counts)
        return state

    def restore(self, state: State) -> None:
        """Continue from what :meth:`state` gave."""
        self._reader.restore(state['reader'])
        self._seen.copy_(state['seen'])
        self._centroids = state.get('centroids')
        if 'sample' in state:
            self._sample = self._make_sample()
            self._sample.restore(state['sample'])
        if 'step' in state:
            self._step = self._make_step()
            self._step.sums.copy_(state['step']['sums'])
            self._step.counts.copy_(state['step']['counts'])

    def close(self) -> None:
        """Release the collected vectors."""
        self._sample = self._step = None
