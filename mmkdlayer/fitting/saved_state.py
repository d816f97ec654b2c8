"""The state of an unfinished fitting on disk, to resume from after an interruption."""

from __future__ import annotations

import time
import uuid
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
import torch
from mmengine import dist
from mmengine.logging import print_log

from mmkdlayer.atomic import replacing
from mmkdlayer.errors import DataError

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
    files are numpy's archives (checksummed, no pickle). Each names the run that began the fitting:
    files of two beginnings, from machines that have a disk of their own, are never mixed.

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

    def resume(self, fitters: Mapping[str, Fitter]) -> Point:
        """Restore fitters from the latest pass that all ranks have a file of; all must call it.

        Returns:
            Where this rank continues; the start, with untouched fitters, where there is nothing.

        Raises:
            DataError: What the state needs is not there; the next start is from the beginning.
        """
        for path in self.folder.glob(f'.pass*-{self._rank}.*'):
            path.unlink(missing_ok=True)  # what this rank was writing when it was killed
        passes = range(max((fitter.num_passes for fitter in fitters.values()), default=0))
        runs = ((index, self._run_of(self._path(index), fitters)) for index in passes)
        usable = {(index, run) for index, run in runs if run is not None}
        found = dist.all_gather_object((usable, uuid.uuid4().hex))
        common = set.intersection(*(those for those, _ in found))
        if not common:
            self._run = found[0][1]
            return Point()
        pass_index, self._run = max(common)
        with errors_on_all_ranks(), np.load(self._path(pass_index), allow_pickle=False) as arrays:
            batches, state = int(arrays['batches']), _nest(arrays, fitters)
            try:
                for name, fitter in fitters.items():
                    fitter.restore(state[name])
            except DataError:
                self._path(pass_index).unlink()
                raise
        print_log(
            f'Resuming the interrupted fitting in {self.folder}: teacher pass {pass_index + 1}, '
            f'after {batches} batches.',
            logger='current',
        )
        return Point(pass_index, batches)

    def _run_of(self, path: Path, fitters: Mapping[str, Fitter]) -> Optional[str]:
        """The run that a usable file is of; None if it is not usable."""
        if not path.exists():
            return None
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged is None:
                with np.load(path, allow_pickle=False) as arrays:
                    names = {name.partition('/')[0] for name in arrays.files}
                    same = str(arrays['identity']) == self.identity and set(fitters) <= names
                    return str(arrays['run']) if same else None
        except Exception as error:  # zipfile has many for damaged files; other ranks wait
            damaged = repr(error)
        warnings.warn(f'{path} is damaged ({damaged}) and not used.', stacklevel=2)
        return None

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
        state = dict(_flatten({name: fitter.state() for name, fitter in fitters.items()}))
        arrays: State = dict(state, identity=self.identity, run=self._run, batches=point.batches)
        try:
            with replacing(self._path(point.pass_index)) as path:
                np.savez(path, **arrays)
        except OSError as error:
            warnings.warn(f'The state of the fitting could not be saved: {error}', stacklevel=2)
            return False
        finally:
            self._saved_at = time.monotonic()
        return True


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
