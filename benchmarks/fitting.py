"""Fitting against scikit-learn and faiss, on the same features, each run in a process of its own.

    pip install -r benchmarks/requirements.txt
    python benchmarks/fitting.py [--repeats 3] [--scale 1.0]

Sub-classes: 320,000 positions of 64 channels in 100 classes, M = 8, L = 60. Ours is
``fit_subclasses``; the other route is LinearDiscriminantAnalysis (solver "svd"), a KMeans in each class
and a decision table row by row. Centroids: K = 4,096 on 400,000 x 64; ours is ``kmeans`` against
faiss.Kmeans, the same number of steps on all the points. Seconds and memory are those of the fitting
alone, without reading the data; memory is the peak above what the process had before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import circumstances, markdown, resident, restart_resident_peak

from mmkdlayer.fitting import fit_subclasses
from mmkdlayer.fitting.kmeans import kmeans
from mmkdlayer.fitting.nearest import CenterSearch

CLASSES, SUBCLASSES, COMPONENTS, CHANNELS, PLACES = 100, 8, 60, 64, 64
CENTROIDS, ITERATIONS = 4096, 20


def make_features(images: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps (B, 64, 8, 8) after a ReLU, each class a mixture of its own patterns, and labels (B,)."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    labels = torch.arange(images) % CLASSES
    pattern = torch.randint(0, 12, (images, PLACES), generator=generator)
    details = normal(CLASSES, 12, CHANNELS)[labels[:, None], pattern]
    vectors = 0.7 * normal(CLASSES, CHANNELS)[labels][:, None] + details
    vectors = (vectors + 0.8 * normal(images, PLACES, CHANNELS)).relu_()
    return vectors.transpose(1, 2).reshape(images, CHANNELS, 8, 8).contiguous(), labels


def subclasses_ours(maps: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """Everything from the features to the decision."""
    batches = list(zip(maps.split(256), labels.split(256)))
    decision = fit_subclasses(batches, CLASSES, SUBCLASSES, COMPONENTS)
    return dict(
        projection=decision.projection.numpy(),
        centers=decision.centers.numpy() - decision.offset.numpy(),
    )


def subclasses_scikit_learn(maps: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """The same with scikit-learn's parts, and the table a row of positions at a time."""
    from sklearn.cluster import KMeans
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    rows = maps.flatten(2).transpose(1, 2).reshape(-1, CHANNELS).numpy()
    classes = labels.repeat_interleave(PLACES).numpy()
    lda = LinearDiscriminantAnalysis(solver='svd', n_components=COMPONENTS)
    z = lda.fit(rows, classes).transform(rows)
    own = np.empty(len(z), np.int64)
    centers, prototypes = [], []
    for index in range(CLASSES):
        inside = np.flatnonzero(classes == index)
        found = KMeans(SUBCLASSES, n_init=1, random_state=0).fit(z[inside])
        own[inside] = index * SUBCLASSES + found.labels_
        centers.append(found.cluster_centers_)
        prototypes += [z[own == index * SUBCLASSES + k].mean(0) for k in range(SUBCLASSES)]
    means = np.stack(prototypes)
    table = np.zeros((len(means), len(means)))
    for number, row in enumerate(z):
        table[own[number], np.square(means - row).sum(1).argmin()] += 1
    table /= table.sum(1, keepdims=True)
    scalings = lda.scalings_[:, :COMPONENTS].T
    return dict(projection=scalings, centers=np.concatenate(centers) + scalings @ lda.xbar_)


def spread_left(maps: torch.Tensor, labels: torch.Tensor, result: dict[str, Any]) -> float:
    """Sum of squares to the nearest center of the own class, as a share of that to the class's mean.

    A share, because two projections differ by a scale; exactly, in float64.
    """
    rows = maps.flatten(2).transpose(1, 2).double()
    z = rows @ torch.from_numpy(result['projection']).double().t()
    centers = torch.from_numpy(result['centers']).double().unflatten(0, (CLASSES, -1))
    left = total = 0.0
    for index in range(CLASSES):
        own = z[labels == index].flatten(0, 1)
        left += float(torch.cdist(own, centers[index]).square().amin(1).sum())
        total += float((own - own.mean(0)).square().sum())
    return left / total


def centroids_ours(maps: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """K-means alone, as CentroidFitter does it after the teacher's pass."""
    points = maps.flatten(2).transpose(1, 2).reshape(-1, CHANNELS).contiguous()
    return dict(centers=kmeans(points, CENTROIDS, iterations=ITERATIONS).numpy())


def centroids_faiss(maps: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """faiss.Kmeans on all the points, the same number of steps."""
    import faiss

    points = maps.flatten(2).transpose(1, 2).reshape(-1, CHANNELS).contiguous().numpy()
    clustering = faiss.Kmeans(
        CHANNELS, CENTROIDS, niter=ITERATIONS, seed=0, max_points_per_centroid=len(points)
    )
    clustering.train(points)
    return dict(centers=clustering.centroids)


def mean_distance(maps: torch.Tensor, labels: torch.Tensor, result: dict[str, Any]) -> float:
    """Sum over all points of the squared distance to the nearest center."""
    points = maps.flatten(2).transpose(1, 2).reshape(-1, CHANNELS).contiguous()
    centers = torch.from_numpy(result['centers'])
    nearest = CenterSearch(centers).find(points)[0]
    parts = zip(points.split(1 << 14), nearest.split(1 << 14))
    return sum(float((part - centers[own]).double().square().sum()) for part, own in parts)


Case = Callable[[torch.Tensor, torch.Tensor], dict[str, Any]]
TASKS: dict[str, tuple[dict[str, Case], Callable, int]] = {
    'sub-classes': (
        {'mmkdlayer': subclasses_ours, 'scikit-learn': subclasses_scikit_learn},
        spread_left,
        320_000 // PLACES,
    ),
    'centroids': (
        {'mmkdlayer': centroids_ours, 'faiss-cpu': centroids_faiss},
        mean_distance,
        400_000 // PLACES,
    ),
}


def run_case(task: str, name: str, scale: float) -> None:
    """In a process of its own: make the features, fit, print the figures."""
    cases, objective, images = TASKS[task]
    maps, labels = make_features(int(images * scale))
    if name == 'scikit-learn':
        import sklearn.cluster  # noqa: F401
        import sklearn.discriminant_analysis  # noqa: F401
    before = restart_resident_peak()
    start = time.perf_counter()
    result = cases[name](maps, labels)
    seconds = time.perf_counter() - start
    memory = resident('VmHWM') - before
    figures = dict(seconds=seconds, memory=memory, objective=float(objective(maps, labels, result)))
    print(json.dumps(figures))


def main() -> None:
    """Run all cases in turns and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--scale', type=float, default=1.0, help='share of the features')
    parser.add_argument('--case', nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        task, name = args.case
        run_case(task, name, args.scale)
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for task, (cases, _, _) in TASKS.items():
            figures: dict[str, list[dict]] = {name: [] for name in cases}
            for _ in range(args.repeats):
                for name in cases:
                    line = [sys.executable, str(Path(__file__).resolve()), '--case', task, name]
                    line += ['--scale', str(args.scale)]
                    done = subprocess.run(
                        line, check=True, capture_output=True, text=True, cwd=folder
                    )
                    figures[name].append(json.loads(done.stdout.splitlines()[-1]))
            first = statistics.median(run['seconds'] for run in figures['mmkdlayer'])
            for name, runs in figures.items():
                middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
                rows.append(
                    (
                        task,
                        name,
                        f'{middle["seconds"]:.2f}',
                        f'{middle["seconds"] / first:.2f}',
                        f'{middle["memory"] / 2**20:.0f}',
                        f'{middle["objective"]:.6g}',
                    )
                )
    print(circumstances(('torch', 'scikit-learn', 'faiss-cpu', 'numpy')))
    print()
    print(
        markdown(('fitting', 'by', 'seconds', 'ratio', 'peak MiB above start', 'objective'), rows)
    )


if __name__ == '__main__':
    main()
