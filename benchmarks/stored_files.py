#!/usr/bin/env python
"""How large stored decisions are, and how fast records are read from files of several kinds."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from measuring import circumstances, markdown
from tqdm import tqdm

from mmkdlayer.fitting.shortages import in_units
from mmkdlayer.stored.files import Store, choose_shard_images, make_fields, record_type, shards_of
from mmkdlayer.stored.writing import Writer

#: Of ImageNet-1k.
IMAGES, CLASSES = 1_281_167, 1000
VIEWS = (1, 16, 100)
INTER = dict(templates=8 * CLASSES, grid=(7, 7), top_k=None)
#: What is stored: KD layers, and logits.
KINDS: dict[str, tuple[dict[str, dict], dict | None]] = {
    'sub-classes (letKD-2, inter)': (dict(inter=INTER), None),
    **{
        f'both layers, k = {k} of 4096 centroids': (
            dict(inter=INTER, penult=dict(templates=4096, grid=(7, 7), top_k=k)),
            None,
        )
        for k in (1, 4, 16)
    },
    'both layers, k = 4, and 10 logits': (
        dict(inter=INTER, penult=dict(templates=4096, grid=(7, 7), top_k=4)),
        dict(classes=CLASSES, top_k=10),
    ),
}


def plan_of(kind: str, images: int, views: int) -> dict[str, Any]:
    """As much of a plan as its size depends on."""
    layers, logits = KINDS[kind]
    fields = make_fields(layers, logits)
    shard_images = choose_shard_images(images, record_type(fields).itemsize, 64)
    facts = dict(images=images, views=views, fields=fields, shard_images=shard_images)
    return dict(facts, kd_layers={}, logits=logits, seed=0)


def computed() -> str:
    """Bytes of a record, of all of ImageNet, and files."""
    rows = []
    for kind in KINDS:
        plan = plan_of(kind, IMAGES, 1)
        size = record_type(plan['fields']).itemsize
        cells = []
        for views in VIEWS:
            files = sum(1 for _ in shards_of(IMAGES, views, plan['shard_images']))
            cells.append(f'{in_units(size * IMAGES * views)} in {files}')
        rows.append([kind, str(size), *cells])
    heads = [f'V = {views}, in files' for views in VIEWS]
    return markdown(['stored', 'bytes of a view', *heads], rows)


def measured(folder: Path, kind: str, images: int) -> str:
    """The same for some images: what is on the disk, and how long writing and checking take."""
    rows = []
    for views in tqdm(VIEWS, desc='writing', unit='store'):
        began = time.perf_counter()
        store = write(folder / f'v{views}', plan_of(kind, images, views))
        written = time.perf_counter()
        store.check()
        checked = time.perf_counter()
        size = sum(file['bytes'] for file in store.manifest['shards'])
        files = len(store.manifest['shards'])
        seconds = f'{written - began:.2f} s', f'{checked - written:.2f} s'
        rows.append([str(views), in_units(size), str(files), *seconds])
    return markdown(['V', 'on the disk', 'files', 'writing', 'checking SHA-256'], rows)


def write(folder: Path, plan: dict[str, Any]) -> Store:
    """A store of random bytes."""
    writer, rng = Writer(folder, plan), np.random.default_rng(0)
    writer.start()
    for shard in writer.shards:
        content = rng.bytes(shard.images * writer.record.itemsize)
        writer.save(shard, np.frombuffer(content, writer.record))
    writer.finish()
    return Store.open(folder)


Read = Callable[[int], Any]


@contextmanager
def from_store(store: Store, folder: Path) -> Iterator[Read]:
    """What training does."""
    yield lambda index: store.read(0, index)


@contextmanager
def from_maps(store: Store, folder: Path) -> Iterator[Read]:
    """The same files, mapped; a truncated one would end the process."""
    size = store.manifest['shard_images']
    maps = [np.load(store.folder / s['file'], mmap_mode='r') for s in store.manifest['shards']]

    def read(index: int) -> dict:
        record = maps[index // size][index % size]
        return {name: np.array(record[name]) for name in store.record.names or ()}

    yield read


@contextmanager
def from_lmdb(store: Store, folder: Path) -> Iterator[Read]:
    """A record for each image, by its number."""
    import lmdb

    whole = 4 * store.images * store.record.itemsize + (1 << 26)
    with lmdb.open(str(folder / 'lmdb'), map_size=whole) as database:
        with database.begin(write=True) as transaction:
            for index in range(store.images):
                values = store.read(0, index).values()
                transaction.put(b'%d' % index, b''.join(value.tobytes() for value in values))
        with database.begin(buffers=True) as transaction:

            def read(index: int) -> dict:
                record = np.frombuffer(transaction.get(b'%d' % index), store.record)[0]
                return {name: np.array(record[name]) for name in store.record.names or ()}

            yield read


@contextmanager
def from_zarr(store: Store, folder: Path) -> Iterator[Read]:
    """An array for each field, a chunk for 64 images, without compression."""
    import zarr

    arrays = {}
    records = [store.read(0, index) for index in range(store.images)]
    for name in store.record.names or ():
        values = np.stack([record[name] for record in records])
        path = str(folder / f'{name}.zarr')
        arrays[name] = zarr.open(
            path, mode='w', shape=values.shape, chunks=(64, *values.shape[1:]), dtype=values.dtype
        )
        arrays[name][:] = values
    yield lambda index: {name: array[index] for name, array in arrays.items()}


READERS: dict[str, Any] = {
    'npy, pread': from_store,
    'npy, memory map': from_maps,
    'lmdb': from_lmdb,
    'zarr': from_zarr,
}


def reads(folder: Path, kind: str, images: int, count: int) -> str:
    """Random reads a second, from the page cache; the kinds take turns."""
    store = write(folder / 'reads', plan_of(kind, images, 1))
    order = np.random.default_rng(1).integers(0, images, count).tolist()
    rows = []
    for name, reader in READERS.items():
        try:
            with reader(store, folder) as read:
                rates = []
                for _ in range(3):
                    began = time.perf_counter()
                    for index in order:
                        read(index)
                    rates.append(count / (time.perf_counter() - began))
            rows.append([name, f'{max(rates):,.0f}'])
        except ImportError:
            rows.append([name, 'not installed'])
    return markdown(['files', 'records a second'], rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--images', type=int, default=IMAGES // 1000, help='that are written')
    parser.add_argument('--reads', type=int, default=20_000)
    parser.add_argument('--folder', help='disk to measure; a temporary folder in it is used')
    args = parser.parse_args()
    print(circumstances(('numpy', 'mmkdlayer', 'lmdb', 'zarr')))
    print(f'\nImageNet-1k, {IMAGES} images, computed:\n\n{computed()}')
    kind = 'both layers, k = 4 of 4096 centroids'
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        print(f'\n{args.images} images, {kind}, written:\n\n{measured(folder, kind, args.images)}')
        print(f'\nReading one image:\n\n{reads(folder, kind, args.images, args.reads)}')
    finally:
        shutil.rmtree(folder)


if __name__ == '__main__':
    main()
