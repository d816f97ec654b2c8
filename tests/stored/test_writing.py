"""Writing goes on where it was ended, with equal bytes, and loses nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from small_stores import IMAGES, plan_of, records_of

from mmkdlayer.errors import ResourceError, StoreError
from mmkdlayer.stored.files import MANIFEST, PLAN, Shard, Store
from mmkdlayer.stored.writing import Writer, begun_plan


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    made = Writer(tmp_path, plan_of(tmp_path))
    made.start()
    return made


def fill(writer: Writer, shard: Shard, until: int | None = None) -> None:
    """Save the first records of a shard, after those that are there."""
    own = records_of(writer.record, shard.view)[shard.first :][: shard.images]
    begun = writer.begun(shard)
    assert begun.tobytes() == own[: len(begun)].tobytes()
    writer.save(shard, own[:until])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def test_the_shards_cover_each_image_of_each_view_once(writer: Writer) -> None:
    covered = [(s.view, s.first + i) for s in writer.shards for i in range(s.images)]
    assert sorted(covered) == covered == [(v, i) for v in range(2) for i in range(IMAGES)]


def test_an_interrupted_writing_ends_with_equal_bytes(writer: Writer, tmp_path: Path) -> None:
    for shard in writer.shards:
        fill(writer, shard)
    writer.finish()
    other = tmp_path / 'other'
    for until in (1, 2, 3, None):  # each time by another writer, as after a kill
        again = Writer(other, plan_of(other))
        again.start()
        for shard in again.pending()[::2]:
            fill(again, shard, until)
    for shard in again.pending():
        fill(again, shard)
    assert again.pending() == []
    again.finish()
    plain = {k: v for k, v in contents(tmp_path).items() if not k.startswith('other')}
    assert contents(other) == plain
    assert not (other / PLAN).exists() and not list(other.rglob('*.begun'))


def test_damaged_and_unfinished_files_are_written_again(writer: Writer) -> None:
    for shard in writer.shards[:3]:
        fill(writer, shard)
    first, second = (next(writer.folder.glob(f'{s.pattern}.npy')) for s in writer.shards[:2])
    os.truncate(first, 300)
    content = bytearray(second.read_bytes())
    content[150] ^= 1
    second.write_bytes(content)
    left = second.parent / '.000000004-0.partial-abc.npy'
    left.write_bytes(b'half')
    begun = second.parent / f'000000008-{"0" * 64}.begun'
    begun.write_bytes(b'not what was written')
    again = Writer(writer.folder, writer.plan)
    again.clean()
    assert again.pending() == [*writer.shards[:2], *writer.shards[3:]]
    assert not first.exists() and not second.exists() and not left.exists()
    assert len(again.begun(writer.shards[2])) == 0


def test_a_full_disk_loses_nothing(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(writer, writer.shards[0])
    fill(writer, writer.shards[1], 2)
    before = contents(writer.folder)

    def full(path: Path, content: bytes) -> int:
        with path.open('wb') as file:
            file.write(content[:100])
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(Path, 'write_bytes', full)
        with pytest.raises(ResourceError, match='000000004-.* could not be written.*Make room'):
            fill(writer, writer.shards[1])
    assert contents(writer.folder) == before
    assert len(writer.begun(writer.shards[1])) == 2


def test_nothing_is_finished_while_shards_are_missing(writer: Writer) -> None:
    fill(writer, writer.shards[0])
    with pytest.raises(StoreError, match='5 of 6 files, such as view0000/000000004.* share'):
        writer.finish()
    assert not (writer.folder / MANIFEST).exists()


def test_more_views_are_added_to_a_store(writer: Writer) -> None:
    assert begun_plan(writer.folder / 'none') is None
    for shard in writer.shards:
        fill(writer, shard)
    writer.finish()
    found = begun_plan(writer.folder)
    assert found is not None and found['views'] == 2
    more = Writer(writer.folder, dict(found, views=3))
    more.start()
    assert Store.open(writer.folder).views == 2  # until it is finished
    assert [shard.view for shard in more.pending()] == [2, 2, 2]
    for shard in more.pending():
        fill(more, shard)
    more.finish()
    opened = Store.open(writer.folder)
    opened.check()
    expected = records_of(opened.record, 2)[9]
    assert np.array_equal(opened.read(2, 9)['inter.rows'], expected['inter.rows'])
