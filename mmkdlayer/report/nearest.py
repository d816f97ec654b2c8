"""The places in the images that are nearest to each entry of a vocabulary, found in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmkdlayer.errors import ConfigError


@dataclass(frozen=True)
class Place:
    """A position of a feature map, as a part of its image."""

    image: int  #: index of the image in the data set that was read
    center: tuple[float, float]  #: (y, x) of its middle, as shares of the image's height and width
    cell: tuple[float, float]  #: (height, width) of a cell of the map, as such shares
    value: float  #: how near it is; larger is nearer


class Vocabulary:
    """Counts where each of K entries is the strongest, and keeps its nearest places.

    These are ``kept`` places of each entry, from as many images; so the memory is that of
    K * (C + kept) numbers, whatever the number of images.
    """

    def __init__(self, entries: int, classes: int, kept: int = 5) -> None:
        if kept < 1:
            raise ConfigError(f'Vocabulary: kept must be 1 or more, but got {kept}.')
        self.kept = kept
        #: Positions at which each entry is the strongest (K,).
        self.counts = np.zeros(entries, np.int64)
        #: The same by the image's class (K, C).
        self.by_class = np.zeros((entries, classes), np.int32)
        self._entries = np.zeros(0, np.int64)
        self._images = np.zeros(0, np.int64)
        self._values = np.zeros(0, np.float32)
        self._places = np.zeros((0, 4), np.float32)

    def count(self, strongest: np.ndarray, labels: np.ndarray) -> None:
        """Count the strongest entry of each position (N, H, W), of classes (N,), -1 for none."""
        flat = strongest.reshape(len(strongest), -1)
        self.counts += np.bincount(flat.ravel(), minlength=len(self.counts))
        known = labels >= 0
        np.add.at(self.by_class, (flat[known], labels[known, None]), 1)

    def add(self, entries: np.ndarray, values: np.ndarray, images: np.ndarray) -> None:
        """Offer places of images (N,).

        Args:
            entries: One or several at each position, (N, H, W) or (N, R, H, W).
            values: How near they are, of the same shape; -inf for those that are no place.
            images: (N,).
        """
        height, width = entries.shape[-2:]
        rows, columns = np.divmod(np.arange(height * width), width)
        own = np.stack([(rows + 0.5) / height, (columns + 0.5) / width], 1)
        cell = np.broadcast_to(np.array([1 / height, 1 / width]), own.shape)
        places = np.tile(
            np.concatenate([own, cell], 1).astype(np.float32), (entries.size // len(own), 1)
        )
        of_images = np.repeat(images, entries[0].size)
        order = np.lexsort((-values.ravel(), of_images, entries.ravel()))
        entry, image = entries.ravel()[order], of_images[order]
        # One place of an image: the nearest.
        first = np.ones(len(order), bool)
        first[1:] = (entry[1:] != entry[:-1]) | (image[1:] != image[:-1])
        chosen = order[first & (values.ravel()[order] > -np.inf)]
        entry = np.concatenate([self._entries, entries.ravel()[chosen]])
        value = np.concatenate([self._values, values.ravel()[chosen].astype(np.float32)])
        image = np.concatenate([self._images, of_images[chosen]])
        place = np.concatenate([self._places, places[chosen]])
        order = np.lexsort((-value, entry))
        entry = entry[order]
        starts = np.searchsorted(entry, entry, side='left')
        best = order[np.arange(len(entry)) - starts < self.kept]
        self._entries, self._values = entry[np.arange(len(entry)) - starts < self.kept], value[best]
        self._images, self._places = image[best], place[best]

    def places(self, entry: int) -> list[Place]:
        """The nearest places of an entry, the nearest first."""
        start, end = np.searchsorted(self._entries, [entry, entry + 1])
        return [
            Place(
                int(self._images[i]),
                (float(self._places[i, 0]), float(self._places[i, 1])),
                (float(self._places[i, 2]), float(self._places[i, 3])),
                float(self._values[i]),
            )
            for i in range(start, end)
        ]
