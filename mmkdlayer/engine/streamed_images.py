"""The images of a data set as fitting reads them: those that can't be read are named, all at once."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Callable

from mmengine.registry import DATASETS

from mmkdlayer.errors import DataError

# So many images that can't be read end the search for more; so many are named.
_MOST, _NAMED = 100, 5
# Errors that say nothing of the image.
_SHORTAGES = (errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC)


class Unreadable(list):
    """In the place of an item or a batch: paths of images that could not be read, each with why."""


class StreamedImages:
    """A data set (or its config) whose items are :class:`Unreadable` where it fails.

    ``most`` is the number of items, at most: evenly spaced ones. None for all.
    """

    def __init__(self, dataset: Any, most: int | None = None) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        if hasattr(self.dataset, 'full_init'):
            self.dataset.full_init()
        for inner in inner_datasets(self.dataset):
            if hasattr(inner, 'test_mode'):
                # Else mmengine puts a random other image in the place of one that can't be read.
                inner.test_mode = True
        count = len(self.dataset)
        wanted = count if most is None else min(most, count)
        self._indices = (
            range(count) if wanted == count else [i * count // wanted for i in range(wanted)]
        )

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Any:
        index = self._indices[index]
        return self.readable(index, self.dataset.__getitem__)

    def readable(self, index: int, load: Callable[[int], Any]) -> Any:
        """What a function gives for the image with this number, or an :class:`Unreadable`."""
        try:
            return load(index)
        except MemoryError:
            raise
        except Exception as error:  # of any decoder or transform
            if isinstance(error, OSError) and error.errno in _SHORTAGES:
                raise
            reason = str(error).strip().split('\n')[0]
            return Unreadable([(self._path(index), f'{type(error).__name__}: {reason}'[:200])])

    def _path(self, index: int) -> str:
        known = hasattr(self.dataset, 'get_data_info')
        info = self.dataset.get_data_info(index) if known else {}
        return str(info.get('img_path', f'image {index}'))


def inner_datasets(dataset: Any) -> Iterator[Any]:
    """A data set and all that it wraps."""
    yield dataset
    for value in list(getattr(dataset, '__dict__', {}).values()):
        for inner in value if isinstance(value, (list, tuple)) else [value]:
            if hasattr(inner, 'get_data_info'):
                yield from inner_datasets(inner)


class CollateReadable:
    """Makes a batch of readable images, and an :class:`Unreadable` of one that has others."""

    def __init__(self, collate: Callable) -> None:
        self.collate = collate

    def __call__(self, items: Sequence) -> Any:
        """The batch, or those that could not be read."""
        broken = [entry for item in items if isinstance(item, Unreadable) for entry in item]
        return Unreadable(broken) if broken else self.collate(items)


def refuse_unreadable(batch: Any, rest: Iterable) -> None:
    """Raise a DataError if a batch is an :class:`Unreadable`, with those of the ``rest`` too."""
    if not isinstance(batch, Unreadable):
        return
    found = list(batch)
    for other in rest:
        if len(found) >= _MOST:
            break
        if isinstance(other, Unreadable):
            found += other
    named = ', '.join(f'{path} ({reason})' for path, reason in found[:_NAMED])
    more = f' and {len(found) - _NAMED} more' if len(found) > _NAMED else ''
    number = f'{_MOST} or more' if len(found) >= _MOST else str(len(found))
    raise DataError(
        f'Images that can not be read: {number}, namely {named}{more}. Replace them, or take them out '
        '(of the folder, and of ann_file where there is one). If these are whole images, compare how '
        'train_dataloader loads them (its Load... steps are used) with the steps of the validation '
        'pipeline that follow.'
    )
