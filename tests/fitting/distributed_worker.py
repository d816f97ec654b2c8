"""Fits on one rank's share of stored data and stores the tables; run once for each rank.

Arguments: folder, rank, world sizes. The folder holds ``input.pt``; every rank of a process group of
each size puts ``output_<size>_<rank>.pt`` there. One process serves all sizes, for starting it takes
longer than its work.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from fitted_tables import tables_of
from mmengine import dist
from torch import Tensor

from mmkdlayer.errors import DataError
from mmkdlayer.fitting import (
    CentroidFitter,
    SubclassFitter,
    decision_table,
    kmeans,
    run_fitters,
    subclasses,
)
from mmkdlayer.fitting.decision_table import fit_decisions, fit_prototypes
from mmkdlayer.fitting.distributed import errors_on_all_ranks
from mmkdlayer.fitting.projected_features import ProjectedFeatures
from mmkdlayer.fitting.saved_state import Point, SavedState

CLASSES, SUBCLASSES = 6, 4
# Vectors that fit: a third of the data in each scenario that samples.
SMALL = {'subclasses': 6 * 22 * 40, 'centroids': 60 * 240}


def share(images: int, rank: int, world: int, kind: str) -> Tensor:
    """The images of one rank: of unequal number, or all but none on the second rank."""
    index = torch.arange(images)
    if kind == 'unequal':
        return index[(index % (world * world)).sqrt().long() == rank]
    owners = [other for other in range(world) if other != 1] or [0]
    return index[torch.tensor(owners)[index % len(owners)] == rank]


def fit(fitter: Any, features: Tensor, labels: Tensor) -> dict[str, Any]:
    """The tables of a fitter that gets the data in small batches."""
    decision = None
    for index in range(fitter.num_passes):
        with errors_on_all_ranks():
            for part in torch.arange(len(labels)).split(7):
                fitter.update(index, features[part], labels[part])
        decision = fitter.finish_pass(index)
    return tables_of(decision)


def count(given: dict[str, Any], own: Tensor, labels: Tensor, folder: Path) -> dict[str, Tensor]:
    """Prototypes and table of given centers, from a rank's own part of given features."""
    path = folder / f'counts-{dist.get_rank()}'
    space = (given[name] for name in ('projection', 'offset', 'means'))
    projected = ProjectedFeatures(*space, path)
    projected.write(own, labels)
    found = {
        'prototypes': fit_prototypes(projected, given['centers']),
        'decisions': fit_decisions(projected, given['centers'], given['prototypes']),
    }
    projected.close()
    path.unlink()
    return found


def run(folder: Path, rank: int, world: int) -> dict[str, Any]:
    """All scenarios on one rank."""
    data = torch.load(folder / 'input.pt', weights_only=True)
    output: dict[str, Any] = {}
    for kind in ('unequal', 'one rank without data'):
        own = share(len(data['labels']), rank, world, kind)
        features, labels = data['features'][own], data['labels'][own]
        for amount, options in (('all', {}), ('sample', SMALL)):
            output[kind, amount, 'subclasses'] = fit(
                SubclassFitter(
                    CLASSES,
                    SUBCLASSES,
                    cache_dir=str(folder),
                    memory_budget=options.get('subclasses', 1 << 20),
                ),
                features,
                labels,
            )
            output[kind, amount, 'centroids'] = fit(
                CentroidFitter(
                    30,
                    memory_budget=options.get('centroids', 1 << 20),
                    streaming_passes=1 if options else 0,
                ),
                features,
                labels,
            )
        rows = features.flatten(2).transpose(1, 2)
        output[kind, 'counts'] = count(data['given'], rows, labels, folder)
        with mock.patch.object(decision_table, 'DENSE_BYTES', 0):
            output[kind, 'sparse counts'] = count(data['given'], rows, labels, folder)
    output['other libraries'] = fit_beside_others(data, rank, world)
    output['error'] = fail_on_last_rank(data, rank, world)
    output['again'] = fit_again(data, rank, world, folder / f'{world} ranks')
    output['points'] = points_after_saves_at_different_times(rank, folder / f'points {world}')
    return output


def fit_again(data: dict[str, Any], rank: int, world: int, folder: Path) -> list[Any]:
    """Tables of a fitting that rank after rank interrupts, in every pass, and of an undisturbed one."""
    own = share(len(data['labels']), rank, world, 'unequal')
    maps = list(zip(data['features'][own].split(5), data['labels'][own].split(5)))
    batches = [({'inter': features}, labels) for features, labels in maps]
    found: list[Any] = []
    for fails_at in ([], [(0, 1), (1, 0), (0, 2), (0, 4)]):
        states = folder / str(len(fails_at))
        states.mkdir(parents=True, exist_ok=True)
        for place in [*fails_at, None]:
            fitter = SubclassFitter(
                CLASSES, SUBCLASSES, cache_dir=str(states), cache_name=f'rank{rank}.bin'
            )
            saved = SavedState(states, 'again', interval=0)

            class Failing(list):
                passes = 0

                def __iter__(self) -> Iterator[Any]:
                    self.passes += 1
                    for number, batch in enumerate(super().__iter__()):
                        # place: which pass over the data of this run, and after how many batches.
                        at = (self.passes - 1, number)
                        if at == place and rank == number % world:  # noqa: B023
                            raise KeyError(at)
                        yield batch

            try:
                results = run_fitters(Failing(batches), {'inter': fitter}, None, None, saved)
            except (KeyError, DataError) as error:
                found.append(repr(error))
            else:
                found.append(tables_of(results['inter']))
    return found


def points_after_saves_at_different_times(rank: int, folder: Path) -> list[Point]:
    """Where ranks continue when only the first one has saved the next pass before the end."""
    folder.mkdir(exist_ok=True)
    saved = SavedState(folder, 'points')
    fitter = CentroidFitter(3, streaming_passes=1)
    saved.save(Point(0, 5 + rank), {'penult': fitter})
    if rank == 0:
        saved.save(Point(1), {'penult': fitter})
    first = saved.resume({'penult': fitter})
    saved.begin_pass(1, {'penult': fitter})
    points = [first, saved.resume({'penult': fitter})]
    # A machine with a disk of its own comes back with what another beginning has left there.
    if rank == 1:
        other = SavedState(folder, 'points')
        other._run = 'another beginning'
        other.save(Point(1, 3), {'penult': fitter})
    points.append(saved.resume({'penult': fitter}))
    return points


def fit_beside_others(data: dict[str, Any], rank: int, world: int) -> list[dict[str, Any]]:
    """Tables where ranks other than the first have a LAPACK and a device that calculate otherwise."""

    def otherwise(function: Any) -> Any:
        def call(*args: Any) -> Any:
            result = function(*args)
            if isinstance(result, tuple):  # of the projection one direction less
                return tuple(part[1:] * 1.01 for part in result)
            return result * 1.01 if result.is_floating_point() else result.flip(0)

        return call

    own = share(len(data['labels']), rank, world, 'unequal')
    features, labels = data['features'][own], data['labels'][own]
    places = [(subclasses, 'fit_lda'), (kmeans, '_first_centers'), (kmeans, '_move')]
    with ExitStack() as stack:
        for owner, name in places if rank else []:
            stack.enter_context(mock.patch.object(owner, name, otherwise(getattr(owner, name))))
        fitters = [SubclassFitter(CLASSES, SUBCLASSES), CentroidFitter(30)]
        return [fit(fitter, features, labels) for fitter in fitters]


def fail_on_last_rank(data: dict[str, Any], rank: int, world: int) -> str:
    """What each rank hears when the data of the last one is bad."""
    labels = data['labels'].clone()
    if rank == world - 1:
        labels[3] = 77
    try:
        fit(SubclassFitter(CLASSES, SUBCLASSES), data['features'], labels)
    except DataError as error:
        return str(error)
    return ''


def main() -> None:
    """Join the process group of each size, run, store."""
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    for world in map(int, sys.argv[3:]):
        if rank >= world:
            continue
        torch.distributed.init_process_group(
            'gloo',
            init_method=f'file://{folder}/rendezvous_{world}',
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=120),
        )
        torch.save(run(folder, rank, world), folder / f'output_{world}_{rank}.pt')
        # Old torch may wait for ever in destroy_process_group when another rank was there first.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if __name__ == '__main__':
    main()
