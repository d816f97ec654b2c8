"""Nearest places, compared with a search over all of them."""

from __future__ import annotations

import numpy as np
import pytest

from mmkdlayer.errors import ConfigError
from mmkdlayer.report.nearest import Place, Vocabulary

ENTRIES, CLASSES, KEPT = 7, 3, 3


@pytest.fixture
def batches() -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Entries (N, H, W), values, numbers of the images, labels; of maps of two sizes."""
    rng = np.random.default_rng(0)
    found, first = [], 0
    for count, height, width in ((4, 3, 2), (5, 2, 2), (1, 3, 2)):
        shape = (count, height, width)
        images = np.arange(first, first + count)
        entries, values = rng.integers(0, ENTRIES - 1, shape), rng.random(shape)
        found.append((entries, values, images, rng.integers(0, CLASSES, count)))
        first += count
    return found


def test_places_are_those_of_a_search_over_all(batches) -> None:
    vocabulary = Vocabulary(ENTRIES, CLASSES, KEPT)
    everywhere: list[tuple[int, Place]] = []
    for entries, values, images, _ in batches:
        vocabulary.add(entries, values, images)
        _, height, width = entries.shape
        for n, row, column in np.ndindex(entries.shape):
            center = ((row + 0.5) / height, (column + 0.5) / width)
            value = float(values[n, row, column])
            place = Place(int(images[n]), center, (1 / height, 1 / width), value)
            everywhere.append((int(entries[n, row, column]), place))
    for entry in range(ENTRIES):
        best: dict[int, Place] = {}
        for number, place in everywhere:
            known = best.get(place.image)
            if number == entry and (known is None or place.value > known.value):
                best[place.image] = place
        expected = sorted(best.values(), key=lambda place: -place.value)[:KEPT]
        found = vocabulary.places(entry)
        assert [place.image for place in found] == [place.image for place in expected]
        for one, other in zip(found, expected):
            assert one.center == pytest.approx(other.center)
            assert one.cell == pytest.approx(other.cell)
            assert one.value == pytest.approx(other.value)
    assert vocabulary.places(ENTRIES - 1) == []  # which is nowhere


def test_counts_are_those_of_loops(batches) -> None:
    vocabulary = Vocabulary(ENTRIES, CLASSES, KEPT)
    counts = np.zeros((ENTRIES, CLASSES), int)
    unlabelled = np.zeros(ENTRIES, int)
    for entries, _, _, labels in batches:
        labels = np.concatenate([[-1], labels[1:]])
        vocabulary.count(entries, labels)
        for n, row, column in np.ndindex(entries.shape):
            if labels[n] < 0:
                unlabelled[entries[n, row, column]] += 1
            else:
                counts[entries[n, row, column], labels[n]] += 1
    assert (vocabulary.by_class == counts).all()
    assert (vocabulary.counts == counts.sum(1) + unlabelled).all()


def test_memory_does_not_grow_with_the_images() -> None:
    vocabulary = Vocabulary(ENTRIES, 0, KEPT)
    rng = np.random.default_rng(0)
    for number in range(50):
        entries = rng.integers(0, ENTRIES, (2, 4, 4))
        vocabulary.add(entries, rng.random(entries.shape), np.array([2 * number, 2 * number + 1]))
    assert len(vocabulary._entries) == ENTRIES * KEPT


def test_nothing_to_keep_is_refused() -> None:
    with pytest.raises(ConfigError, match='kept must be 1 or more, but got 0'):
        Vocabulary(ENTRIES, CLASSES, 0)
