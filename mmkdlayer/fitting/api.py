"""The two decisions, each fitted by one call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import TYPE_CHECKING, Any, Optional

from torch import Tensor

from .centroids import CentroidFitter
from .fitters import Fitter, run_fitters
from .progress import Progress
from .subclasses import SubclassFitter

if TYPE_CHECKING:
    from mmkdlayer.models.decisions import CentroidDecision, SubclassDecision

Batches = Iterable[tuple[Tensor, Tensor]]
_NAME = 'teacher'


class _Named:
    """Batches of one layer as batches of named layers."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        for features, labels in self.batches:
            yield {_NAME: features}, labels


class _SizedNamed(_Named):
    """The same where the number of batches is known."""

    def __len__(self) -> int:
        assert isinstance(self.batches, Sized)
        return len(self.batches)


def _fit(batches: Batches, fitter: Fitter, progress: Optional[Progress]) -> Any:
    named = (_SizedNamed if isinstance(batches, Sized) else _Named)(batches)
    return run_fitters(named, {_NAME: fitter}, progress)[_NAME]


def fit_centroids(
    batches: Batches,
    num_centroids: int,
    *,
    temperature: float = 1.0,
    iterations: int = 25,
    seed: int = 0,
    memory_budget: int = 1 << 30,
    size: Optional[tuple[int, int]] = None,
    streaming_passes: int = 0,
    progress: Optional[Progress] = None,
) -> CentroidDecision:
    """Fit the centroids of a teacher's penultimate layer (method, section 2a).

    Args:
        batches: Gives (features (B, D, H, W), labels (B,)); iterated once, and once more for each
            of ``streaming_passes``. In a distributed run every rank gives its own share.
        num_centroids: K.
        temperature: tau of the decision.
        iterations: Largest number of steps of k-means.
        seed: Chooses the sample and the first centroids.
        memory_budget: Bytes of host memory that sampled vectors may take on each rank; all the
            vectors are used when they fit.
        size: (h, w) to which larger teacher maps are average-pooled.
        streaming_passes: Steps of k-means with all the vectors after those with the sample.
        progress: Called as ``progress(desc=..., total=...)`` for the bar of each stage, such as
            ``tqdm.tqdm``; None is silent.

    Returns:
        The fitted decision, the same on every rank.

    Raises:
        DataError: Fewer vectors than centroids, or features that cannot be used.
        ConfigError: ``memory_budget`` is too small.
    """
    fitter = CentroidFitter(
        num_centroids,
        temperature=temperature,
        iterations=iterations,
        seed=seed,
        memory_budget=memory_budget,
        size=size,
        streaming_passes=streaming_passes,
        progress=progress,
    )
    return _fit(batches, fitter, progress)


def fit_subclasses(
    batches: Batches,
    num_classes: int,
    num_subclasses: int = 8,
    num_components: int = 60,
    *,
    seed: int = 0,
    memory_budget: int = 1 << 30,
    size: Optional[tuple[int, int]] = None,
    cache_dir: Optional[str] = None,
    class_names: Optional[Sequence[str]] = None,
    progress: Optional[Progress] = None,
) -> SubclassDecision:
    """Fit a teacher's decisions over sub-classes at an intermediate layer (method, section 2b).

    Args:
        batches: Gives (features (B, D, H, W), labels (B,)); iterated twice, with the same data. In
            a distributed run every rank gives its own share.
        num_classes: C.
        num_subclasses: M.
        num_components: Upper limit of L; L = min(num_components, C - 1, rank of the features).
        seed: Chooses the sample for k-means and its first centers.
        memory_budget: Bytes of host memory that sampled vectors may take on each rank; all the
            vectors are used when they fit.
        size: (h, w) to which larger teacher maps are average-pooled.
        cache_dir: Directory for projected features, 4 L + 4 bytes a position, removed at the end.
        class_names: Names of the classes, for messages.
        progress: As in :func:`fit_centroids`.

    Returns:
        The fitted decision, the same on every rank.

    Raises:
        DataError: A class without enough positions, a label out of range, or features that cannot
            be used.
        ConfigError: ``cache_dir``, its disk or ``memory_budget`` is too small.
    """
    fitter = SubclassFitter(
        num_classes,
        num_subclasses,
        num_components,
        seed=seed,
        memory_budget=memory_budget,
        size=size,
        cache_dir=cache_dir,
        class_names=class_names,
        progress=progress,
    )
    return _fit(batches, fitter, progress)
