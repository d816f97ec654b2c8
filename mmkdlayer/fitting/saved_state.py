"""The state of an unfinished fitting on disk, to resume from after an interruption."""

from __future__ import annotations

import hashlib
import shutil
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
import torch
from mmengine import dist
from mmengine.logging import MMLogger

from mmkdlayer.atomic import replacing
from mmkdlayer.checkpoints import refuse_compression
from mmkdlayer.errors import DataError, KDLayerError, SavedStateError

from .distributed import errors_on_all_ranks
from .fitter import Fitter, State


class Point(NamedTuple):
    """How far a rank has come: pass of the teacher, and batches of it that are done."""

    pass_index: int = 0
    batches: int = 0


class SavedState:
    """A file for each rank and pass, written every few minutes and between passes, whole or not at all.

    Ranks come to different points of a pass, each with its own share of the data, but they are in
    the same pass: the files of a pass are removed only when every rank has one of the next. The
    files are numpy's archives without pickle, and hold a SHA-256 of all that is in them. Each names its
    pass and the run that began the fitting: files of two beginnings, from machines that have a disk of
    their own, are never mixed. What is damaged or not what was written is removed, with a warning.

    Args:
        folder: Where the files are; made as needed. May be on a disk of the machine's own.
        identity: What the fitting depends on, such as a hash of data, teacher and options: files of
            another identity, or of another number of ranks, are not used.
        interval: Seconds between two saves within a pass.
    """

    def __init__(self, folder: str | Path, identity: str, interval: float = 300.0) -> None:
        self.folder = Path(folder)
        self.identity = identity
        self.interval = interval
        self._saved_at = time.monotonic()
        self._run = ''
        self._rank = f'rank{dist.get_rank()}of{dist.get_world_size()}'

    def _path(self, pass_index: int) -> Path:
        return self.folder / f'pass{pass_index}-{self._rank}.npz'

    def resume(self, fitters: Mapping[str, Fitter], num_batches: Optional[int] = None) -> Point:
        """Restore fitters from the latest pass that all ranks have a file of; all must call it.

        The fitters have seen nothing yet; ``num_batches`` is how many this rank has in a pass,
        where that is known.

        Returns:
            Where this rank continues; the start, with untouched fitters, where there is nothing.

        Raises:
            SavedStateError: What the state needs is not there, on all ranks. The fitters are not usable
                any more, and the next start is from the beginning.
        """
        for path in self.folder.glob(f'.pass*-{self._rank}.*'):
            path.unlink(missing_ok=True)  # what this rank was writing when it was killed
        passes = range(max((fitter.num_passes for fitter in fitters.values()), default=0))
        runs = ((index, self._run_of(index, fitters, num_batches)) for index in passes)
        usable = {(index, run) for index, run in runs if run is not None}
        found = dist.all_gather_object((usable, uuid.uuid4().hex))
        common = set.intersection(*(those for those, _ in found))
        if not common:
            self._run = found[0][1]
            return Point()
        pass_index, self._run = max(common)
        with errors_on_all_ranks(), _opened(self._path(pass_index)) as arrays:
            batches = int(arrays['batches'])
            self._restore(fitters, arrays, self._path(pass_index))
        MMLogger.get_current_instance().info(
            f'Resuming the interrupted fitting in {self.folder}: teacher pass {pass_index + 1}, '
            f'after {batches} batches.'
        )
        return Point(pass_index, batches)

    def _run_of(
        self, pass_index: int, fitters: Mapping[str, Fitter], num_batches: Optional[int]
    ) -> Optional[str]:
        """The run that a usable file is of; None if there is none. A damaged one is removed."""
        path = self._path(pass_index)
        if not path.exists():
            return None
        try:
            with _opened(path) as arrays:
                names = set(arrays.files) - {'content'}
                if str(arrays['content']) != _digest(arrays, names):
                    raise ValueError('its content is not what was written')
                if int(arrays['pass_index']) != pass_index:
                    raise ValueError(f'it is of teacher pass {int(arrays["pass_index"]) + 1}')
                batches = int(arrays['batches'])
                if batches < 0 or num_batches is not None and batches > num_batches:
                    raise ValueError(f'{batches} batches are done, but a pass has {num_batches}')
                known = {name.partition('/')[0] for name in names}
                same = str(arrays['identity']) == self.identity and set(fitters) <= known
                return str(arrays['run']) if same else None
        except Exception as error:  # a damaged file can raise anything; other ranks wait
            warnings.warn(f'{path} is damaged ({error!r}), and removed.', stacklevel=2)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        return None

    def _restore(
        self, fitters: Mapping[str, Fitter], arrays: np.lib.npyio.NpzFile, path: Path
    ) -> None:
        state = _nest(arrays, fitters)
        try:
            for name, fitter in fitters.items():
                fitter.restore(state[name])
        except Exception as error:
            ours = isinstance(error, KDLayerError) and not isinstance(error, DataError)
            if ours or isinstance(error, (OSError, MemoryError)):
                raise  # a full disk, say: the state is as good as before
            path.unlink()
            raise SavedStateError(
                f'The state of the interrupted fitting in {path} can not be used: {error}'
            ) from error

    def begin_pass(self, pass_index: int, fitters: Mapping[str, Fitter]) -> None:
        """Save the start of a later pass and drop those before; all ranks must call it."""
        with errors_on_all_ranks():
            saved = self.save(Point(pass_index), fitters)
        if all(dist.all_gather_object(saved)):
            for earlier in range(pass_index):
                self._path(earlier).unlink(missing_ok=True)

    def save_if_due(self, point: Point, fitters: Mapping[str, Fitter]) -> None:
        """Save if the last time is ``interval`` seconds ago."""
        if time.monotonic() - self._saved_at >= self.interval:
            self.save(point, fitters)

    def save(self, point: Point, fitters: Mapping[str, Fitter]) -> bool:
        """Write this rank's state; a failure is a warning, because fitting can continue without.

        Raises:
            OSError: A fitter can't store what it needs itself, with or without a state.
        """
        arrays = dict(_flatten({name: fitter.state() for name, fitter in fitters.items()}))
        facts = dict(
            identity=self.identity,
            run=self._run,
            pass_index=point.pass_index,
            batches=point.batches,
        )
        arrays.update({name: np.array(value) for name, value in facts.items()})
        arrays['content'] = np.array(_digest(arrays, arrays))
        try:
            with replacing(self._path(point.pass_index)) as path:
                np.savez(path, **arrays)  # type: ignore[arg-type]
        except OSError as error:
            warnings.warn(f'The state of the fitting could not be saved: {error}', stacklevel=2)
            return False
        finally:
            self._saved_at = time.monotonic()
        return True


@contextmanager
def _opened(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """The arrays of a file, each of which is read when it is asked for.

    Raises:
        Exception: It is no such archive, or compressed.
    """
    with path.open('rb') as file:
        refuse_compression(file)
        with np.load(file, allow_pickle=False) as arrays:
            yield arrays


def _digest(arrays: Mapping[str, np.ndarray], names: Iterable[str]) -> str:
    """SHA-256 of names, types, shapes and contents."""
    digest = hashlib.sha256()
    for name in sorted(names):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f'{name} {array.dtype.str} {array.shape}'.encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _flatten(state: State, prefix: str = '') -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a nested state, under their paths."""
    for name, value in state.items():
        if isinstance(value, dict):
            yield from _flatten(value, f'{prefix}{name}/')
        else:
            yield prefix + name, value.detach().cpu().numpy()


def _nest(arrays: np.lib.npyio.NpzFile, fitters: Mapping[str, Fitter]) -> State:
    """The nested state of some fitters from the arrays of a file; those of others are not read."""
    state: State = {}
    for path in arrays.files:
        *parents, name = path.split('/')
        if parents and parents[0] in fitters:
            inner = state
            for parent in parents:
                inner = inner.setdefault(parent, {})
            inner[name] = torch.from_numpy(arrays[path])
    return state
