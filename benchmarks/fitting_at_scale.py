"""Fit the decisions of ImageNet-shaped teacher features that are made on the fly, and watch the memory.

    python benchmarks/fitting_at_scale.py --images 20000 40000 --out scaling
    python benchmarks/fitting_at_scale.py --images 1281167      # all of ImageNet: hours on two cores

Streams features (512 channels, 7x7, 1,000 classes) of each number of images through the fitters
that training uses, both decisions at once (M = 8, L = 60, K = 4,096), in a process of its own. Prints
the time of each stage, what grows with the images and what does not, and the peak of memory above
the process before the fitting; writes memory over time as a plot (``--out``.svg, needs matplotlib) and
as ``--out``.csv.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import torch
from measuring import circumstances, markdown, resident
from torch import Tensor

from mmkdlayer.fitting import CentroidFitter, Fitter, SubclassFitter, run_fitters


class MadeFeatures:
    """Batches of features after a ReLU: patterns of each class and noise, the same at each pass."""

    def __init__(self, images: int, classes: int, channels: int, places: int, batch: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images, self.classes, self.batch = images, classes, batch
        self.side = int(places**0.5)
        self.patterns = torch.randn(classes, 4, channels, generator=generator)
        # Noise is read at changing places of one array, because drawing it would take longer than
        # the fitting.
        self.noise = torch.randn(batch * places * channels + (1 << 20), generator=generator)

    def __len__(self) -> int:
        return -(-self.images // self.batch)

    def __iter__(self) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        generator = torch.Generator().manual_seed(1)
        places = self.side**2
        for start in range(0, self.images, self.batch):
            size = min(self.batch, self.images - start)
            labels = torch.arange(start, start + size) % self.classes
            pattern = torch.randint(0, 4, (size, places), generator=generator)
            features = self.patterns[labels[:, None], pattern]
            shift = int(torch.randint(0, 1 << 20, (1,), generator=generator))
            features += self.noise[shift : shift + features.numel()].view_as(features)
            maps = features.relu_().transpose(1, 2).unflatten(2, (self.side, self.side))
            yield {'inter': maps, 'penult': maps}, labels


class Watch:
    """Stages of the fitting with their times, and the memory of the process twice a second."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.stages: list[tuple[str, float, float]] = []
        self.memory: list[tuple[float, int]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while not self._ended.wait(0.5):
            self.memory.append((time.perf_counter() - self.start, resident()))

    def __call__(self, *, desc: str, total: Optional[int]) -> _Stage:
        """A stage, as a progress bar that shows nothing."""
        return _Stage(self, desc)

    def end(self) -> None:
        """Stop sampling."""
        self._ended.set()
        self._thread.join()


class _Stage:
    def __init__(self, watch: Watch, desc: str) -> None:
        self.watch, self.desc, self.begin = watch, desc, time.perf_counter() - watch.start

    def update(self, n: int = 1) -> None:
        pass

    def close(self) -> None:
        now = time.perf_counter() - self.watch.start
        self.watch.stages.append((self.desc, self.begin, now))


def run(images: int, args: argparse.Namespace) -> dict[str, Any]:
    """Fit in this process and return times and memory."""
    stream = MadeFeatures(images, args.classes, args.channels, args.places, args.batch)
    made = time.perf_counter()
    for _ in zip(range(20), stream):
        pass
    making = (time.perf_counter() - made) / min(20, len(stream)) * len(stream)
    torch.mm(torch.randn(500, 500), torch.randn(500, 500))  # what torch allocates once
    before = resident()
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        fitters: dict[str, Fitter] = {
            'penult': CentroidFitter(args.centroids, iterations=args.iterations),
            'inter': SubclassFitter(args.classes, 8, 60, cache_dir=folder),
        }
        results = run_fitters(stream, fitters, watch)
    watch.end()
    table = results['inter'].decisions
    cells = int(table._nnz() if table.is_sparse else table.count_nonzero())
    return dict(
        images=images,
        making=making,
        before=before,
        stages=watch.stages,
        memory=watch.memory,
        density=cells / table.shape[0] ** 2,
    )


def report(runs: list[dict[str, Any]]) -> str:
    """A row for each stage: seconds for each number of images."""
    names = [name for name, _, _ in runs[0]['stages']]
    rows: list[tuple] = []
    for index, name in enumerate(names):
        spans = [run['stages'][index] for run in runs]
        rows.append((name, *(f'{end - begin:.1f} s' for _, begin, end in spans)))
    rows.append(('of these, making features', *(f'{2 * run["making"]:.1f} s' for run in runs)))
    peaks = [max(value for _, value in run['memory']) - run['before'] for run in runs]
    rows.append(('peak memory above the start', *(f'{peak / 1e9:.2f} GB' for peak in peaks)))
    rows.append(('cells of the table that occur', *(f'{run["density"]:.2%}' for run in runs)))
    return markdown(('', *(f'{run["images"]:,} images' for run in runs)), rows)


def plot(runs: list[dict[str, Any]], path: Path) -> None:
    """Memory over time, one line for each number of images."""
    import matplotlib

    matplotlib.use('svg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3.6), constrained_layout=True)
    for run in runs:
        times, values = zip(*run['memory'])
        above = [(value - run['before']) / 1e9 for value in values]
        axes.plot(times, above, label=f'{run["images"]:,} images')
    axes.set(xlabel='seconds', ylabel='GB above the start', ylim=(0, None))
    axes.axhline(2.0, color='grey', linestyle=':', linewidth=1)
    axes.legend()
    figure.savefig(path, metadata={'Date': None})


def main() -> None:
    """Run each number of images in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--images', type=int, nargs='+', default=[20000, 40000])
    parser.add_argument('--classes', type=int, default=1000)
    parser.add_argument('--channels', type=int, default=512)
    parser.add_argument('--places', type=int, default=49, help='positions of an image, a square')
    parser.add_argument('--centroids', type=int, default=4096)
    parser.add_argument('--iterations', type=int, default=25, help='of the k-means of centroids')
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--out', type=Path, help='path without suffix for the plot and the CSV')
    args = parser.parse_args()
    runs = []
    for images in args.images:
        # A new process for each: memory that one has freed would hide what the next one takes.
        with multiprocessing.get_context('spawn').Pool(1) as pool:
            runs.append(pool.apply(run, (images, args)))
    print(circumstances(('torch', 'numpy')))
    print()
    print(report(runs))
    if args.out:
        with args.out.with_suffix('.csv').open('w', newline='') as file:
            writer = csv.writer(file)
            writer.writerow(('images', 'seconds', 'bytes above the start'))
            for run_ in runs:
                for moment, value in run_['memory']:
                    writer.writerow((run_['images'], f'{moment:.1f}', value - run_['before']))
        plot(runs, args.out.with_suffix('.svg'))


if __name__ == '__main__':
    main()
