"""Fitting of the centroids of a penultimate layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional

import torch
from torch import Tensor

from mmkdlayer.errors import ConfigError, DataError

from .distributed import errors_on_all_ranks, largest_over_ranks, sum_over_ranks
from .features import FeatureReader, check_same_data
from .hashing import position_hashes
from .kmeans import StreamedStep, kmeans
from .progress import Progress
from .sampling import HashSample
from .states import prefixed, under

if TYPE_CHECKING:
    from mmkdlayer.models.decisions import CentroidDecision

_HASH_BYTES = 12


class CentroidFitter:
    """K-means over teacher vectors (method, section 2a), in one pass over the teacher.

    All the vectors are clustered when they fit ``memory_budget``, else a seeded sample of them that
    depends on their content only; then each of ``streaming_passes`` more passes over the teacher is
    one step of k-means with all the vectors, whatever their number.

    Args:
        num_centroids: K.
        temperature: tau of the decision.
        iterations: Largest number of steps of k-means.
        seed: Chooses the sample and the first centroids.
        memory_budget: Bytes of host memory that sampled vectors may take on each rank.
        size: (h, w) to which larger teacher maps are average-pooled.
        streaming_passes: Steps with all the vectors after those with the sample.
        progress: See :class:`~mmkdlayer.fitting.progress.Progress`.
    """

    def __init__(
        self,
        num_centroids: int,
        *,
        temperature: float = 1.0,
        iterations: int = 25,
        seed: int = 0,
        memory_budget: int = 1 << 30,
        size: Optional[tuple[int, int]] = None,
        streaming_passes: int = 0,
        progress: Optional[Progress] = None,
    ) -> None:
        if num_centroids < 1 or iterations < 1 or streaming_passes < 0:
            raise ConfigError(
                'num_centroids and iterations must be 1 or more and streaming_passes 0 or more, '
                f'but are {num_centroids}, {iterations} and {streaming_passes}.'
            )
        self.num_passes = 1 + streaming_passes
        self.num_centroids = num_centroids
        self.temperature = float(temperature)
        self.iterations = iterations
        self.seed = seed
        self.memory_budget = memory_budget
        self.progress = progress
        self._reader = FeatureReader(size)
        self._seen = torch.zeros(self.num_passes, 1, dtype=torch.int64)
        self._sample: Optional[HashSample] = None
        self._step: Optional[StreamedStep] = None
        self._centroids: Optional[Tensor] = None

    def update(self, pass_index: int, features: Tensor, labels: Optional[Tensor] = None) -> None:
        """Take in a batch of features (B, D, H, W); labels are not used."""
        positions = self._reader.read(features)
        vectors = positions.flatten(0, 1)
        self._seen[pass_index] += len(vectors)
        if pass_index > 0:
            if self._step is None:
                self._step = self._make_step()
            self._step.update(vectors)
            return
        if self._sample is None:
            self._sample = self._make_sample(vectors.shape[1])
        self._sample.add(vectors, position_hashes(positions, self.seed).flatten())

    def _make_sample(self, channels: int) -> HashSample:
        capacity = self.memory_budget // (4 * channels + _HASH_BYTES)
        if capacity < self.num_centroids:
            raise ConfigError(
                f'A memory_budget of {self.memory_budget} bytes holds {capacity} vectors of '
                f'{channels} channels, fewer than the {self.num_centroids} centroids to fit. '
                'Raise memory_budget.'
            )
        return HashSample(capacity, channels, torch.float32)

    def _make_step(self) -> StreamedStep:
        assert self._centroids is not None, 'finish_pass(0) comes first'
        return StreamedStep(self._centroids.to(self._reader.device))

    def finish_pass(self, pass_index: int) -> None:
        """Cluster what the pass has given; all ranks must call it.

        Raises:
            DataError: Fewer vectors than centroids, or other data in a later pass.
        """
        sum_over_ranks(self._seen[pass_index])
        if pass_index > 0:
            check_same_data(self._seen[0], self._seen[pass_index])
            self._centroids = (self._step or self._make_step()).finish().cpu()
            self._step = None
            return
        channels = largest_over_ranks(self._reader.channels)
        if channels == 0:
            raise DataError(
                'Fitting centroids got no feature at all. Check that data is not empty.'
            )
        with errors_on_all_ranks():
            self._reader.check_channels(channels)
            sample = self._sample or self._make_sample(channels)
        self._sample = None
        points = sample.collect().rows.to(self._reader.device)
        result = kmeans(
            points,
            self.num_centroids,
            iterations=self.iterations,
            seed=self.seed,
            progress=self.progress,
        )
        self._centroids = result.centers.cpu()

    def state(self) -> dict[str, Tensor]:
        """What the passes so far have given, as tensors by name."""
        state = dict(self._reader.state(), seen=self._seen)
        if self._centroids is not None:
            state['centroids'] = self._centroids
        if self._sample is not None:
            state.update(prefixed('sample', self._sample.state()))
        if self._step is not None:
            state.update(prefixed('step', self._step.state()))
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` gave."""
        self._reader.restore(state)
        self._seen.copy_(state['seen'])
        if 'centroids' in state:
            self._centroids = state['centroids']
        sample, step = under('sample', state), under('step', state)
        if sample:
            self._sample = self._make_sample(self._reader.channels)
            self._sample.restore(sample)
        if step:
            self._step = self._make_step()
            self._step.restore(step)

    def tables(self) -> dict[str, Any]:
        """The arguments of ``CentroidDecision.from_tables``; known after the last pass."""
        assert self._centroids is not None, 'finish_pass comes first'
        return {'centroids': self._centroids, 'temperature': self.temperature}

    def result(self) -> CentroidDecision:
        """The decision, known after the last pass."""
        from mmkdlayer.models.decisions import CentroidDecision

        return CentroidDecision.from_tables(**self.tables())

    def close(self) -> None:
        """Let go of the collected vectors."""
        self._sample = self._step = None
