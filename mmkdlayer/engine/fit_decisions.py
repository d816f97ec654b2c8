"""Fits decisions and stores them; an interrupted fitting is resumed by the next one."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, get_rank, get_world_size, is_main_process
from mmengine.logging import MMLogger
from tqdm import tqdm

from mmkdlayer.errors import ConfigError, DataError, SavedStateError
from mmkdlayer.fitting import CentroidFitter, Fitter, SubclassFitter, run_fitters
from mmkdlayer.fitting.distributed import errors_on_all_ranks
from mmkdlayer.fitting.shortages import shortages_of
from mmkdlayer.models.decisions import CentroidDecision, SubclassDecision, TeacherDecision
from mmkdlayer.version import installed_versions

from .feature_stream import FeatureStream
from .fingerprints import FileState, file_states, hash_json
from .fitting_folder import fitting_folder, remove_folders
from .interruptible_state import InterruptibleState
from .provenance import identity_of
from .supervision import SupervisedLayer


@dataclass(frozen=True)
class FitOptions:
    """How decisions are fitted.

    Attributes:
        seed: Seed of the samples and of k-means.
        memory_budget: Bytes that sampled features may take on each rank; all are used where they fit.
        iterations: Steps of the k-means of the centroids, at most.
        streaming_passes: More steps of it over all features, each with a pass of the teacher.
        cache_dir: Folder for projected features and for the state of an interrupted fitting, from
            which the next start resumes; None for that of the decisions. May be on a disk of each
            machine's own.
        small_classes: Whether a class may have fewer positions than sub-classes, or no image at all;
            its sub-classes are equal then, or stay unused. For a fold, or a long tail.
        quality_images: On so many validation images, at most, the teacher and its decisions are measured
            before training, in one pass of the teacher; 0 for none.
        checkpoint_interval: Seconds between two saves of this state within a pass of the teacher.
    """

    seed: int = 0
    memory_budget: int = 1 << 30
    iterations: int = 25
    streaming_passes: int = 0
    cache_dir: str | None = None
    checkpoint_interval: float = 300.0
    small_classes: bool = False
    quality_images: int = 1000

    def compared(self) -> dict[str, int]:
        """What the decisions depend on: stored with them, compared before they are used again."""
        names = ('seed', 'memory_budget', 'iterations', 'streaming_passes')
        return {name: getattr(self, name) for name in names}


def fit_decisions(
    stream: FeatureStream,
    missing: Sequence[SupervisedLayer],
    paths: Mapping[str, Path],
    out_dir: str | os.PathLike,
    options: FitOptions,
) -> None:
    """Fit missing decisions from the same passes over the teacher.

    Each is stored in ``out_dir`` as soon as it is ready. The stream, which has the features of all
    layers, is restricted to the missing ones. What an interrupted fitting has left is used; where it
    turns out to be damaged it is dropped, and fitting begins anew.

    Raises:
        DataError: The data do not suffice, or were changed meanwhile.
        ResourceError: Memory, disk or file handles do not suffice.
    """
    logger = MMLogger.get_current_instance()
    cache_dir = options.cache_dir or out_dir
    identity = fitting_identity(stream)
    for last in (False, True):
        stream.layers = [layer for layer in missing if not layer.decision.is_fitted]
        images = stream.layers[0].provenance['data']['images']
        logger.info(
            f'Fitting the decisions {sorted(layer.name for layer in stream.layers)} on {images} images '
            'with the test-time transform.'
        )
        try:
            _fit_once(stream, paths, out_dir, options, identity)
            return
        except SavedStateError as error:
            if last:
                raise
            logger.warning(f'{error} What was saved is dropped, and fitting begins anew.')
            barrier()
            remove_folders(cache_dir, out_dir)
            barrier()


def _fit_once(
    stream: FeatureStream,
    paths: Mapping[str, Path],
    out_dir: str | os.PathLike,
    options: FitOptions,
    identity: str,
) -> None:
    layers = {layer.name: layer for layer in stream.layers}
    files = file_states(stream.dataset)

    def store(name: str, fitted: TeacherDecision) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec='seconds')
        fitted.provenance = dict(layers[name].provenance, versions=installed_versions(), date=now)
        if is_main_process():
            check_unchanged(files, file_states(stream.dataset))
            with shortages_of(paths[name]):
                fitted.save(paths[name])
            MMLogger.get_current_instance().info(
                f'Decision "{name}": fitted and stored in {paths[name]}.'
            )
        layers[name].decision.copy_from(fitted)

    with fitting_folder(options.cache_dir or out_dir, out_dir, identity) as folder:
        class_names = getattr(stream.dataset, 'metainfo', {}).get('classes')
        with errors_on_all_ranks():
            fitters = {
                name: make_fitter(layer, options, folder, class_names)
                for name, layer in layers.items()
            }
        saved = InterruptibleState(folder, identity, options.checkpoint_interval)
        run_fitters(stream, fitters, progress_bar, store, saved)
        left = [name for name, layer in layers.items() if not layer.decision.is_fitted]
        if left:
            raise SavedStateError(f'The state in {folder} is not that of a fitting of {left}.')


def check_unchanged(before: Mapping[str, FileState], after: Mapping[str, FileState]) -> None:
    """Raise a DataError if files have other sizes or times than before."""
    changed = [path for path, state in before.items() if after.get(path) != state]
    if changed:
        raise DataError(
            f'{len(changed)} of {len(before)} images that were looked at have been changed while the '
            f'decisions were fitted on them, such as {changed[0]}. Nothing of this fitting is used: '
            'start again when nothing writes there any more.'
        )


def fitting_identity(stream: FeatureStream) -> str:
    """A hash of all that the state of a fitting of these layers, or of some of them, depends on."""
    facts = dict(
        expected={layer.name: identity_of(layer.provenance) for layer in stream.layers},
        settings={layer.name: layer.decision.fit_options() for layer in stream.layers},
        batch_size=stream.loader.batch_size,
        ranks=get_world_size(),  # each rank's files hold its share
        versions=installed_versions(),
    )
    return hash_json(facts)


def make_fitter(
    layer: SupervisedLayer, options: FitOptions, folder: Path, class_names: Sequence[str] | None
) -> Fitter:
    """The fitter of a layer's decision, or a ConfigError where its kind has none."""
    decision = layer.decision
    shared: dict[str, Any] = dict(
        size=layer.size, seed=options.seed, memory_budget=options.memory_budget
    )
    if isinstance(decision, CentroidDecision):
        return CentroidFitter(
            **decision.options(),
            iterations=options.iterations,
            streaming_passes=options.streaming_passes,
            **shared,
        )
    if isinstance(decision, SubclassDecision):
        known = class_names is not None and len(class_names) == decision.num_classes
        return SubclassFitter(
            **decision.fit_options(),
            cache_dir=str(folder),
            cache_name=f'{layer.name}-rank{get_rank()}.bin',
            class_names=class_names if known else None,
            small_classes=options.small_classes,
            **shared,
        )
    raise ConfigError(f'{layer.key}: a {type(decision).__name__} has no fitter. Give it a file.')


def progress_bar(*, desc: str, total: int | None) -> Any:
    """A bar with rate and time left, on the main process alone."""
    # In a log file each update is a line: one a minute will do.
    interval = 0.1 if sys.stderr.isatty() else 60
    return tqdm(
        desc=desc,
        total=total,
        disable=not is_main_process(),
        dynamic_ncols=True,
        mininterval=interval,
        maxinterval=interval,
    )
