"""The files of stored decisions: a manifest, and shards of records of one size, read at any place.

A shard is a ``.npy`` file with the records of a range of images in one view. Its name ends with the
SHA-256 of its content. A record has a field for each thing stored (:func:`make_fields`), so an image's
decisions are one read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import numpy as np

from mmkdlayer.atomic import replacing
from mmkdlayer.checkpoints import hash_file
from mmkdlayer.errors import StoreError
from mmkdlayer.plain_json import parse_json

FORMAT = 'mmkdlayer.store'
FORMAT_VERSION = 1
MANIFEST, PLAN, DECISIONS = 'manifest.json', 'plan.json', 'decisions'
#: Shards that a process keeps open at a time, and threads that calculate checksums.
MOST_OPEN, THREADS = 128, 4
#: Bytes of a shard at most, and shards of a view at most where bytes allow: files are few, and the work
#: of a view is dealt to many processes.
SHARD_BYTES, VIEW_SHARDS, LEAST_IMAGES = 1 << 25, 64, 256
_AGAIN = 'Store them anew with "python -m mmkdlayer store_decisions CONFIG --views V --out DIR".'


class Field(NamedTuple):
    """What a record has of an image."""

    #: ``<layer>.rows``, ``<layer>.probabilities``, ``logits.rows``, ``logits.values``,
    #: ``logits.rest`` or ``hash``.
    name: str
    dtype: str  #: as numpy writes it, such as '<u2'
    shape: tuple[int, ...]  #: (H, W) or (H, W, k) of a layer, (k,) of logits, () of the others


class Shard(NamedTuple):
    """A range of images in one view."""

    view: int
    first: int
    images: int

    @property
    def pattern(self) -> str:
        """Its file's name without suffix, with ``*`` for the SHA-256."""
        return f'view{self.view:04d}/{self.first:09d}-*'

    def file(self, digest: str) -> str:
        """Its file's name, with the SHA-256 of the content."""
        return self.pattern.replace('*', digest) + '.npy'


def make_fields(
    kd_layers: Mapping[str, Mapping[str, Any]], logits: Optional[Mapping[str, int]] = None
) -> list[Field]:
    """The fields of a record.

    Args:
        kd_layers: By name ``templates`` (K), ``grid`` (H, W) and ``top_k``: None for a decision whose
            positions each have one row of a table, else how many templates each position keeps.
        logits: ``classes`` (C) and ``top_k`` of the teacher's logits; None where none are stored.
    """
    fields = [Field('hash', '<u8', ())]
    for name, layer in kd_layers.items():
        kept = () if layer['top_k'] is None else (layer['top_k'],)
        shape = (*layer['grid'], *kept)
        fields.append(Field(f'{name}.rows', unsigned_type(layer['templates']), shape))
        if kept:
            fields.append(Field(f'{name}.probabilities', '<f2', shape))
    if logits:
        kept = (logits['top_k'],)
        fields.append(Field('logits.rows', unsigned_type(logits['classes']), kept))
        fields.append(Field('logits.values', '<f2', kept))
        fields.append(Field('logits.rest', '<f2', ()))
    return fields


def unsigned_type(values: int) -> str:
    """The smallest unsigned type for the numbers from 0 to ``values`` - 1."""
    return np.min_scalar_type(values - 1).newbyteorder('<').str


def record_type(fields: Sequence[Sequence]) -> np.dtype:
    """The type of a record, packed."""
    return np.dtype([(name, dtype, tuple(shape)) for name, dtype, shape in fields])


def choose_shard_images(images: int, record_bytes: int, batch_size: int) -> int:
    """Images of a shard: a multiple of the batch size, whatever the number of processes."""
    wanted = max(LEAST_IMAGES, -(-images // VIEW_SHARDS))
    most = max(1, SHARD_BYTES // record_bytes)
    return -(-min(wanted, most, images) // batch_size) * batch_size


def shards_of(images: int, views: int, shard_images: int) -> Iterator[Shard]:
    """The shards of a store, view after view."""
    for view in range(views):
        for first in range(0, images, shard_images):
            yield Shard(view, first, min(shard_images, images - first))


class Store:
    """Stored decisions, read record by record.

    The manifest has

    - ``images``, ``views``, ``seed`` (base seed of the views), ``fields``, ``shard_images``;
    - ``kd_layers``: by name ``kind`` (class of the decision), ``settings`` (its arguments),
      ``templates`` (K), ``grid`` [H, W], ``top_k`` (None for rows of a table), ``rest`` (mean
      probability that is not among the k), ``tables`` (hash of the decision), and of the decision's
      file ``file``, ``bytes`` and ``sha256``;
    - ``logits``: None, or ``classes``, ``top_k`` and ``sources`` (the teacher's modules that return
      them);
    - ``data``, ``classes``, ``pipeline``, ``versions`` (see :mod:`mmkdlayer.stored.facts`), ``teacher``;
    - ``shards``: ``file``, ``images``, ``bytes``, ``sha256`` of each.

    Files are read at their places (``pread``), not mapped: who truncates a mapped file ends the process.
    It may be handed to data workers, forked or spawned.

    Attributes:
        folder: Where it is.
        manifest: What is stored and of what; see docs/stored.md.
        images, views: Their numbers.
        record: The type of a record.
    """

    def __init__(self, folder: str | os.PathLike, manifest: Mapping[str, Any]) -> None:
        self.folder, self.manifest = Path(folder), manifest
        self.images, self.views = int(manifest['images']), int(manifest['views'])
        self.record = record_type(manifest['fields'])
        self._files = list(manifest['shards'])
        self._shard_images = int(manifest['shard_images'])
        self._shards = -(-self.images // self._shard_images)
        self._opened: OrderedDict[int, int] = OrderedDict()

    @classmethod
    def open(cls, folder: str | os.PathLike) -> Store:
        """The store in a folder, of which only the manifest is read.

        Raises:
            StoreError: There is none, storing was not finished, or the manifest is damaged.
        """
        return cls(folder, read_manifest(Path(folder, MANIFEST)))

    def read(self, view: int, index: int) -> dict[str, np.ndarray]:
        """What is stored of an image in one view: arrays by the names of the fields.

        Raises:
            StoreError: The file is not there any more, or has become shorter.
            IndexError: There is no such view or image.
        """
        if not (0 <= view < self.views and 0 <= index < self.images):
            raise IndexError(
                f'{self.folder} has {self.views} views of {self.images} images, no view {view} of '
                f'image {index}.'
            )
        number = view * self._shards + index // self._shard_images
        size, data = self.record.itemsize, b''
        place = index % self._shard_images * size
        file = self._files[number]
        start = file['bytes'] - file['images'] * size
        try:
            data = os.pread(self._handle(number), size, start + place)
        except OSError as error:
            raise StoreError(f'{self.folder / file["file"]} can not be read ({error}).') from error
        if len(data) != size:
            raise StoreError(f'{self.folder / file["file"]} has become shorter while it was read.')
        record = np.frombuffer(data, self.record)[0]
        return {name: np.array(record[name]) for name in self.record.names or ()}

    def _handle(self, number: int) -> int:
        handle = self._opened.pop(number, None)
        if handle is None:
            if len(self._opened) >= MOST_OPEN:
                os.close(self._opened.popitem(last=False)[1])
            handle = os.open(self.folder / self._files[number]['file'], os.O_RDONLY)
        self._opened[number] = handle
        return handle

    def decision_file(self, layer: str) -> Path:
        """The decision that the rows of a KD layer are of."""
        return self.folder / self.manifest['kd_layers'][layer]['file']

    def check(self, full: bool = True, progress: Optional[Callable[[int], object]] = None) -> None:
        """Check that every file is there, as large as it was written and, if ``full``, unchanged.

        ``progress`` is called with a number of bytes that are checked.

        Raises:
            StoreError: It names the first files that are not.
        """
        files = [*self._files, *self.manifest['kd_layers'].values()]
        wrong = []
        with ThreadPoolExecutor(THREADS) as pool:
            found = pool.map(lambda file: describe_damage(self.folder, file, full), files)
            for file, damage in zip(files, found):
                if damage:
                    wrong.append(f'{file["file"]} {damage}')
                if progress:
                    progress(file['bytes'])
        if wrong:
            more = f' (and {len(wrong) - 3} more)' if len(wrong) > 3 else ''
            raise StoreError(
                f'The stored decisions in {self.folder} are not what was written: '
                f'{"; ".join(wrong[:3])}{more}. Copy these files again from where they are whole, or '
                'remove them and run the command that stored them again, which stores what is missing.'
            )

    def close(self) -> None:
        """Close the files; they are opened again as needed."""
        while self._opened:
            os.close(self._opened.popitem()[1])

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__, _opened=OrderedDict())

    def __del__(self) -> None:
        if hasattr(self, '_opened'):
            self.close()


def describe_damage(folder: Path, file: Mapping[str, Any], full: bool) -> str:
    """What is wrong with a file of a manifest; empty where nothing is."""
    path = folder / file['file']
    try:
        size = path.stat().st_size
        if size != file['bytes']:
            return f'has {size} bytes, but {file["bytes"]} were written'
        if full and hash_file(path) != file['sha256']:
            return 'has another SHA-256 than was written: it was changed or damaged'
    except FileNotFoundError:
        return 'is missing'
    except OSError as error:
        return f'can not be read ({error})'
    return ''


def write_manifest(path: Path, content: Mapping[str, Any]) -> None:
    """Write a manifest or plan, with a checksum of its content."""
    whole = dict(content, format=FORMAT, format_version=FORMAT_VERSION)
    whole['sha256'] = _checksum(whole)
    with replacing(path) as partial:
        partial.write_text(json.dumps(whole, indent=1, sort_keys=True))


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest or plan, or raise a StoreError: none there, damaged, or of another version."""
    try:
        content = parse_json(path.read_text())
        if not isinstance(content, dict):
            raise ValueError('it is no object')
    except FileNotFoundError:
        if path.with_name(PLAN).exists():
            raise StoreError(
                f'{path.parent} holds decisions whose storing was not finished. Run the same '
                'store_decisions command again: it continues from there.'
            ) from None
        raise StoreError(
            f'{path.parent} holds no stored decisions ({path} is missing). {_AGAIN}'
        ) from None
    except (OSError, ValueError) as error:
        raise StoreError(f'{path} can not be read ({error}). {_AGAIN}') from error
    if content.get('format') != FORMAT or content.get('format_version') != FORMAT_VERSION:
        raise StoreError(
            f'{path}: expected format {FORMAT}, version {FORMAT_VERSION}, but found '
            f'{content.get("format")}, version {content.get("format_version")}. Use the mmkdlayer that '
            'wrote it, or store the decisions anew.'
        )
    if content.get('sha256') != _checksum(content):
        raise StoreError(
            f'{path} is not what was written (the SHA-256 in it is of something else): it was changed '
            f'or damaged. {_AGAIN}'
        )
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in content.items() if name != 'sha256'}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
