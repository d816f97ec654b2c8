"""Fitting of the centroids of a penultimate layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from torch import Tensor

from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.models.decisions import CentroidDecision

from .fitter import Fitter, State
from .fitters import Batches, run_fitters
from .kmeans import StreamedStep, kmeans
from .progress import Progress
from .sampling import make_sample


def fit_centroids(
    batches: Batches, num_centroids: int, *, progress: Optional[Progress] = None, **options: Any
) -> CentroidDecision:
    """Fit the centroids of a teacher's penultimate layer with one :class:`CentroidFitter`.

    ``batches`` of features (B, D, H, W) and labels, which are not read, and ``progress`` are as for
    :func:`run_fitters`, the other arguments those of the fitter.

    Raises:
        DataError: Fewer vectors than centroids, or features that cannot be used.
        ConfigError: ``memory_budget`` is too small, or a map has one position and ``size`` more.
    """
    fitter = CentroidFitter(num_centroids, **options)
    return run_fitters(batches, {'penult': fitter}, progress)['penult']


@dataclass(eq=False)
class CentroidFitter(Fitter):
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
        self._begin(1 + self.streaming_passes)
        self._step: Optional[StreamedStep] = None

    def _start(self) -> None:
        self._sample = make_sample(self.memory_budget, self._channels, 1, self.num_centroids)

    def _add(self, pass_index: int, positions: Tensor, labels: Optional[Tensor]) -> None:
        vectors = positions.flatten(0, 1)
        self._counts[pass_index] += len(vectors)
        if self._step is not None:
            self._step.update(vectors)
            return
        assert self._sample is not None
        self._sample.make_room(self.num_batches * len(vectors))
        self._sample.add(vectors, self._hashes(positions).flatten())

    def _finish(self, pass_index: int) -> Optional[CentroidDecision]:
        if self._step is not None:
            centroids = self._step.finish()
        elif self._sample is not None:
            points, self._sample = self._sample.collect()[0].to(self._device), None
            iterations, seed = self.iterations, self.seed
            centroids = kmeans(points, self.num_centroids, iterations=iterations, seed=seed)
        else:
            raise DataError(
                'Fitting centroids got no feature at all. Check that data is not empty.'
            )
        if pass_index < self.num_passes - 1:
            self._step = StreamedStep(centroids, int(self._counts[0].sum()))
            return None
        return CentroidDecision.from_tables(centroids.cpu(), float(self.temperature))

    def _state(self) -> State:
        return {} if self._step is None else dict(step=self._step.state())

    def _restore(self, state: State) -> None:
        if 'step' in state:
            step = {name: tensor.to(self._device) for name, tensor in state['step'].items()}
            self._step = StreamedStep(**dict(step, number=int(step['number'])))

    def close(self) -> None:
        """Release memory."""
        super().close()
        self._step = None
