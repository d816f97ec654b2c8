"""What is written is what is read; whatever is wrong with it is said."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Callable

import numpy as np
import pytest
from small_stores import IMAGES, VIEWS, records_of, write_store
from torch.utils.data import DataLoader

from mmkdlayer.errors import StoreError
from mmkdlayer.stored import files
from mmkdlayer.stored.files import (
    MANIFEST,
    PLAN,
    Store,
    choose_shard_images,
    make_fields,
    record_type,
    unsigned_type,
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_store(tmp_path / 'store')


def test_every_record_is_read_as_it_was_written(store: Path) -> None:
    opened = Store.open(store)
    opened.check()
    for view in range(VIEWS):
        expected = records_of(opened.record, view)
        for index in range(IMAGES):
            found = opened.read(view, index)
            assert list(found) == [field[0] for field in opened.manifest['fields']]
            for name, value in found.items():
                assert value.dtype == opened.record[name].base
                assert value.tobytes() == expected[index][name].tobytes()


def test_shards_are_plain_files_of_numpy_of_the_smallest_types(store: Path) -> None:
    paths = sorted(store.glob('view*/*.npy'))
    assert len(paths) == VIEWS * 3
    records = np.load(paths[2])
    assert len(records) == 2 and paths[2].name.startswith('000000008-')
    assert records['inter.rows'].dtype == np.uint16 and records['inter.rows'].shape == (2, 2, 3)
    assert records['penult.rows'].dtype == np.uint8 and records['logits.rows'].dtype == np.uint32
    assert records['penult.probabilities'].shape == (2, 2, 2, 3)
    for path in paths:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem.split('-')[1]


@pytest.mark.parametrize(
    'number, dtype', [(256, '|u1'), (257, '<u2'), (1 << 16, '<u2'), (65537, '<u4')]
)
def test_rows_have_the_smallest_type_that_holds_them(number: int, dtype: str) -> None:
    assert unsigned_type(number) == dtype
    assert np.array([number - 1], dtype)[0] == number - 1


def test_a_table_of_49_positions_takes_98_bytes() -> None:
    layer = dict(templates=8000, grid=(7, 7), top_k=None)
    assert record_type(make_fields(dict(inter=layer))).itemsize == 98 + 8


class Rows:
    """A data set of an image's rows in view 1."""

    def __init__(self, folder: Path) -> None:
        self.store = Store.open(folder)
        self.store.read(0, 0)  # what is open before workers start

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> np.ndarray:
        return self.store.read(1, index)['inter.rows'].astype(np.int64)


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_data_workers_read_it(store: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, 'MOST_OPEN', 2)
    if method == 'spawn':  # as a started process gets it, without the time that starting takes
        rows = pickle.loads(pickle.dumps(Rows(store)))
        found = np.stack([rows[index] for index in range(IMAGES)])
    else:
        loader: DataLoader = DataLoader(
            Rows(store), batch_size=3, num_workers=2, multiprocessing_context=method
        )
        found = np.concatenate([batch.numpy() for batch in loader])
    assert (found == records_of(Store.open(store).record, 1)['inter.rows']).all()


def test_few_files_are_open_at_a_time(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, 'MOST_OPEN', 2)
    opened = Store.open(store)
    before = len(os.listdir('/proc/self/fd'))
    for view, index in ((0, 0), (0, 4), (0, 8), (1, 0), (0, 0)):
        opened.read(view, index)
    assert len(os.listdir('/proc/self/fd')) == before + 2
    opened.close()
    assert len(os.listdir('/proc/self/fd')) == before


@pytest.mark.parametrize('view, index', [(-1, 0), (0, -1), (VIEWS, 0), (0, IMAGES)])
def test_there_are_no_others(store: Path, view: int, index: int) -> None:
    with pytest.raises(IndexError, match=f'no view {view} of image {index}'):
        Store.open(store).read(view, index)


def a_shard(store: Path) -> Path:
    return sorted(store.glob('view0001/*.npy'))[1]


def change_a_byte(path: Path, place: int = -7) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    'a shard is missing': (lambda store: a_shard(store).unlink(), 'is missing'),
    'a shard is shorter': (lambda store: os.truncate(a_shard(store), 200), 'has 200 bytes, but'),
    'one byte is changed': (lambda store: change_a_byte(a_shard(store)), 'another SHA-256'),
    'a decision is changed': (
        lambda store: change_a_byte(store / 'decisions' / 'inter.safetensors', 0),
        'decisions/inter.safetensors has another SHA-256',
    ),
    'a view is missing': (lambda store: shutil.rmtree(store / 'view0000'), 'is missing'),
}


@pytest.mark.parametrize('damage, words', DAMAGES.values(), ids=DAMAGES)
def test_damage_is_found_and_named(store: Path, damage: Callable, words: str) -> None:
    damage(store)
    with pytest.raises(StoreError, match=words) as caught:
        Store.open(store).check()
    assert str(store) in str(caught.value) and 'run the command' in str(caught.value)


def test_a_quick_check_looks_at_sizes_alone(store: Path) -> None:
    change_a_byte(a_shard(store))
    Store.open(store).check(full=False)
    done: list[int] = []
    os.truncate(a_shard(store), 100)
    with pytest.raises(StoreError):
        Store.open(store).check(full=False, progress=done.append)
    assert len(done) == VIEWS * 3 + 2


def test_a_file_that_shrinks_meanwhile_is_an_error_and_no_signal(store: Path) -> None:
    opened = Store.open(store)
    opened.read(1, 4)
    os.truncate(a_shard(store), 100)
    with pytest.raises(StoreError, match='has become shorter'):
        opened.read(1, 4)
    a_shard(store).unlink()
    opened.close()
    with pytest.raises(StoreError, match='can not be read'):
        opened.read(1, 4)


def test_what_is_no_store_is_said(store: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match='holds no stored decisions .* store_decisions CONFIG'):
        Store.open(tmp_path)
    shutil.move(store / MANIFEST, store / PLAN)
    with pytest.raises(StoreError, match='not finished. Run the same'):
        Store.open(store)


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda text: text.replace('"views": 2', '"views": 3'), 'is not what was written'),
        (lambda text: text[:-20], 'can not be read'),
        (lambda text: '[]', 'it is no object'),
        (lambda text: '{}', 'expected format mmkdlayer.store, version 1, but found None'),
        (lambda text: text.replace('"format_version": 1', '"format_version": 2'), 'version 2'),
        (lambda text: '[' * 100_000, 'nested more than'),
    ],
)
def test_a_changed_manifest_is_refused(store: Path, change: Callable, words: str) -> None:
    text = (store / MANIFEST).read_text()
    assert json.loads(text)['views'] == 2
    (store / MANIFEST).write_text(change(text))
    with pytest.raises(StoreError, match=words):
        Store.open(store)


@pytest.mark.parametrize(
    'images, record, batch, expected',
    [
        (1_281_167, 1000, 64, 20_032),
        (50_000, 400, 128, 896),
        (30, 360, 8, 32),
        (1_281_167, 50_000, 64, 704),
    ],
)
def test_shards_are_few_and_small(images: int, record: int, batch: int, expected: int) -> None:
    assert choose_shard_images(images, record, batch) == expected
    assert expected % batch == 0 and expected * record < 36e6
