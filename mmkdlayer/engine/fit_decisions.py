"""Fits decisions and stores them; an interrupted fitting is resumed by the next one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, get_rank, get_world_size, is_main_process
from mmengine.logging import MMLogger
from tqdm import tqdm

from mmkdlayer.errors import ConfigError
from mmkdlayer.fitting import CentroidFitter, Fitter, SubclassFitter, run_fitters
from mmkdlayer.fitting.distributed import errors_on_all_ranks
from mmkdlayer.fitting.projected_features import CACHE_PREFIX
from mmkdlayer.fitting.saved_state import SavedState
from mmkdlayer.models.decisions import CentroidDecision, SubclassDecision, TeacherDecision
from mmkdlayer.version import installed_versions

from .feature_stream import FeatureStream
from .provenance import hash_json
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
        checkpoint_interval: Seconds between two saves of this state within a pass of the teacher.
    """

    seed: int = 0
    memory_budget: int = 1 << 30
    iterations: int = 25
    streaming_passes: int = 0
    cache_dir: str | None = None
    checkpoint_interval: float = 300.0

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
    layers, is restricted to the missing ones.
    """
    cache_dir = options.cache_dir or out_dir
    if not missing:
        # A fitting may have been killed after it had stored its last decision.
        remove_folders(cache_dir, out_dir)
        return
    logger = MMLogger.get_current_instance()
    layers = {layer.name: layer for layer in missing}

    def store(name: str, fitted: TeacherDecision) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec='seconds')
        fitted.provenance = dict(layers[name].provenance, versions=installed_versions(), date=now)
        if is_main_process():
            fitted.save(paths[name])
            logger.info(f'Decision "{name}": fitted and stored in {paths[name]}.')
        layers[name].decision.copy_from(fitted)

    identity = fitting_identity(stream)
    stream.layers = missing
    images = missing[0].provenance['data']['images']
    logger.info(
        f'Fitting the decisions {sorted(layers)} on {images} images with the test-time transform.'
    )
    with fitting_folder(cache_dir, out_dir, identity) as folder:
        class_names = getattr(stream.dataset, 'metainfo', {}).get('classes')
        with errors_on_all_ranks():
            fitters = {
                name: make_fitter(layer, options, folder, class_names)
                for name, layer in layers.items()
            }
        saved = SavedState(folder, identity, options.checkpoint_interval)
        run_fitters(stream, fitters, progress_bar, store, saved)


def fitting_identity(stream: FeatureStream) -> str:
    """A hash of all that the state of a fitting of these layers, or of some of them, depends on."""
    facts = dict(
        expected={layer.name: layer.provenance for layer in stream.layers},
        settings={layer.name: layer.decision.fit_options() for layer in stream.layers},
        batch_size=stream.loader.batch_size,
        ranks=get_world_size(),  # each rank's files hold its share
        versions=installed_versions(),
    )
    return hash_json(facts)


@contextmanager
def fitting_folder(
    parent: str | os.PathLike, out_dir: str | os.PathLike, identity: str
) -> Iterator[Path]:
    """The folder of one fitting in ``parent``; removed when the block succeeds, and kept if not.

    Fittings for the same ``out_dir`` follow one another: what an earlier one with another identity
    has left is removed. Those for other folders may share ``parent``, also at the same time. It is
    made as needed, on one disk for all machines or on each machine's own.
    """
    folder = Path(parent) / f'{_owner(out_dir)}{identity[:12]}'
    with errors_on_all_ranks():
        remove_folders(parent, out_dir, but=folder)
        folder.mkdir(parents=True, exist_ok=True)
    yield folder
    barrier()
    remove_folders(parent, out_dir)


def remove_folders(
    parent: str | os.PathLike, out_dir: str | os.PathLike, but: Path | None = None
) -> None:
    """Remove what fittings for ``out_dir`` have left in ``parent``, except for one folder."""
    if os.environ.get('LOCAL_RANK', '0') != '0':
        return  # one process on each machine
    for left in Path(parent).glob(f'{_owner(out_dir)}*'):
        if left != but:
            shutil.rmtree(left, ignore_errors=True)


def _owner(out_dir: str | os.PathLike) -> str:
    """What the names of all folders of fittings for ``out_dir`` begin with."""
    return f'{CACHE_PREFIX}{hash_json(os.path.abspath(out_dir))[:12]}_'


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
