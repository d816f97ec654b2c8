#!/usr/bin/env python
"""What a step costs with the live teacher, with stored decisions, and under random targets.

    python benchmarks/stored.py                                   # all pairs
    python benchmarks/stored.py --pairs cifar --steps 50 --rounds 7

Loading and drawing the images is part of a step, in two worker processes. The cases take turns, each for
some steps with workers of its own. The floor is the student with KD layers under random targets, on
images that are drawn without seeds and compared with nothing. Weights, images and tables are random.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from building import PAIRS, ROOT, STORED, Pair, build_model, pair_decisions
from measuring import circumstances, markdown, synchronize
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS, MODELS
from torch.utils.data import DataLoader
from tqdm import tqdm

from mmkdlayer.engine.allocator import keep_memory
from mmkdlayer.engine.batching import stack_images
from mmkdlayer.models.labels import STORED as FIELD
from mmkdlayer.models.labels import move_stored
from mmkdlayer.pipelines import find_pipeline
from mmkdlayer.stored import StoredViews
from mmkdlayer.stored.files import make_fields
from mmkdlayer.stored.views import hash_view, render_view
from mmkdlayer.stored.writing import Writer

#: At 224 the JPEG files are of this height and width, about those of ImageNet.
PHOTO = (375, 500)
#: k, of the centroids.
KEPT = 4
LIVE, FLOOR = 'live teacher', 'random targets (the floor)'
CHOSEN = dict(
    cifar=PAIRS['cifar'],
    imagenet=PAIRS['imagenet'],
    swin=Pair('swin-base_resnet18_in1k', 16, 224, 1000, 1024),
)


class Sizes(NamedTuple):
    """How much is measured: images that there are, steps of a turn, of which the first are not timed."""

    images: int
    steps: int
    warmup: int
    workers: int


@DATASETS.register_module()
class MadeUpImages(BaseDataset):
    """Smooth random images: arrays for CIFAR's pipeline, else JPEG files."""

    def __init__(self, images: int, side: int, classes: int, folder: str, pipeline: list) -> None:
        self.images, self.side, self.classes, self.folder = images, side, classes, Path(folder)
        super().__init__(pipeline=pipeline, serialize_data=False)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Draw them."""
        rng, found = np.random.default_rng(0), []
        for index in range(self.images):
            noise = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            info: dict[str, Any] = dict(gt_label=index % self.classes)
            if self.side == 32:
                info['img'] = cv2.resize(noise, (32, 32), interpolation=cv2.INTER_CUBIC)
            else:
                info['img_path'] = str(self.folder / f'{index}.jpg')
                photo = cv2.resize(noise, PHOTO[::-1], interpolation=cv2.INTER_CUBIC)
                cv2.imwrite(info['img_path'], photo)
            found.append(info)
        return found


class RandomTargets:
    """A data set whose items carry random decisions, made once: nothing is read or compared."""

    def __init__(self, dataset: Any, record: Mapping[str, np.ndarray]) -> None:
        self.dataset, self.record = dataset, record

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        found = self.dataset[index]
        found['data_samples'].set_field(dict(self.record), FIELD)
        return found


def write_store(folder: Path, dataset: Any, pair: Pair, side: int) -> Path:
    """Random decisions about one view of each image, with the hashes of these views."""
    grid = (side, side)
    layers: dict[str, dict[str, Any]] = dict(
        inter=dict(templates=8 * pair.classes, grid=grid, top_k=None),
        penult=dict(templates=pair.centroids, grid=grid, top_k=KEPT),
    )
    facts: dict[str, Any] = dict(images=len(dataset), views=1, seed=0, shard_images=1024)
    plan: dict[str, Any] = dict(facts, kd_layers={}, logits=None, fields=make_fields(layers))
    writer, rng = Writer(folder, plan), np.random.default_rng(0)
    writer.start()
    for shard in writer.shards:
        records = np.zeros(shard.images, writer.record)
        for name, layer in layers.items():
            rows = records[f'{name}.rows']
            rows[...] = rng.integers(0, layer['templates'] - KEPT, rows.shape)
        records['penult.rows'] = records['penult.rows'][..., :1] + np.arange(KEPT)
        records['penult.probabilities'] = 0.99 / KEPT
        for place in range(shard.images):
            rendered = render_view(dataset, shard.first + place, shard.view, 0)
            records['hash'][place] = hash_view(rendered['inputs'])
        writer.save(shard, records)
    writer.finish()
    return folder


class Case:
    """A network and its training set; calling it takes some steps and gives the seconds of one."""

    def __init__(
        self, pair: Pair, kind: str, dataset: Any, config: Config, decisions: Any, device: str
    ) -> None:
        self.model, self.optimizer = build_model(pair, kind, decisions, device)
        self.preprocessor = MODELS.build(config.data_preprocessor).to(device)
        self.dataset, self.batch, self.device = dataset, pair.batch, device

    def __call__(self, sizes: Sizes) -> float:
        """Start workers, take steps, end the workers."""
        loader = DataLoader(
            self.dataset,
            self.batch,
            shuffle=True,
            num_workers=sizes.workers,
            collate_fn=stack_images,
            drop_last=True,
            persistent_workers=sizes.workers > 0,
            pin_memory=self.device != 'cpu',
        )
        began = 0.0
        batches = self._endless(loader)
        for step in range(sizes.steps):
            if step == sizes.warmup:
                synchronize(self.device)
                began = time.perf_counter()
            batch = next(batches)
            move_stored(batch['data_samples'], torch.device(self.device))
            data = self.preprocessor(batch, True)
            loss, _ = self.model.parse_losses(self.model(**data, mode='loss'))
            self.optimizer.update_params(loss)
        synchronize(self.device)
        return (time.perf_counter() - began) / (sizes.steps - sizes.warmup)

    @staticmethod
    def _endless(loader: DataLoader) -> Iterator[Any]:
        while True:
            yield from loader


def measure(pair: Pair, sizes: Sizes, rounds: int, device: str, folder: Path) -> str:
    """The table of one pair."""
    init_default_scope('mmpretrain')
    config = Config.fromfile(str(ROOT / 'configs' / 'kdlayer' / f'{pair.config}.py'))
    pipeline = find_pipeline(config.train_dataloader.dataset) or []
    (folder / 'images').mkdir(parents=True)
    images: Any = MadeUpImages(
        sizes.images, pair.side, pair.classes, str(folder / 'images'), pipeline
    )
    decisions = pair_decisions(pair, device)
    store = write_store(folder / 'store', images, pair, 8 if pair.side == 32 else pair.side // 32)
    stored = StoredViews(images, store)
    record = {name: value for name, value in stored.store.read(0, 0).items() if name != 'hash'}
    cases = {
        LIVE: Case(pair, 'letKD-2', images, config, decisions, device),
        STORED: Case(pair, STORED, stored, config, decisions, device),
        FLOOR: Case(pair, STORED, RandomTargets(images, record), config, decisions, device),
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in tqdm(range(rounds), desc=pair.config, unit='round'):
        for name, case in cases.items():
            seconds[name].append(case(sizes))
    rows = []
    for name, found in seconds.items():
        ratios = [own / floor for own, floor in zip(found, seconds[FLOOR])]
        cells = f'{1000 * statistics.median(found):.0f}', f'{statistics.median(ratios):.2f}'
        rows.append((name, *cells, f'{min(ratios):.2f} to {max(ratios):.2f}'))
    title = f'{pair.config}, batch {pair.batch}, {pair.side}x{pair.side}'
    return markdown((title, 'ms a step', 'of the floor', 'in the rounds'), rows)


def main() -> None:
    """Measure the pairs that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--pairs', nargs='+', choices=sorted(CHOSEN), default=sorted(CHOSEN))
    parser.add_argument('--batch', type=int, help='default: that of the pair')
    parser.add_argument('--images', type=int, default=512)
    parser.add_argument('--steps', type=int, default=24, help='steps of a turn')
    parser.add_argument('--warmup', type=int, default=4, help='of them not timed')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    options = parser.parse_args()
    print(circumstances(), flush=True)
    keep_memory(Config(dict()))
    sizes = Sizes(options.images, options.steps, options.warmup, options.workers)
    for name in options.pairs:
        pair = CHOSEN[name]
        pair = pair._replace(batch=options.batch or pair.batch)
        with tempfile.TemporaryDirectory() as folder:
            table = measure(pair, sizes, options.rounds, options.device, Path(folder))
        print(f'\n{table}', flush=True)


if __name__ == '__main__':
    main()
