"""Puts students side by side: section 5, a page of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mmkdlayer.errors import ConfigError

from .page import write
from .pictures import data_uri
from .predictions import Predictions

#: Classes that are named as those where students differ most; images that one alone gets right.
MOST_DIFFERENT, ALONE_RIGHT = 12, 24


def compare(folders: Sequence[str | os.PathLike], out: str | os.PathLike) -> Path:
    """Write the page that compares the students of two or more reports; returns its path.

    Raises:
        ConfigError: A folder has no report, or they are on other images.
    """
    if len(folders) < 2:
        raise ConfigError(
            f'--compare: expected two folders of reports or more, but got {len(folders)}.'
        )
    found = [Predictions.load(folder) for folder in folders]
    first = found[0]
    for folder, other in zip(folders, found):
        same = [
            np.array_equal(first.indices, other.indices)
            and np.array_equal(first.labels, other.labels),
            list(first.classes) == list(other.classes),
        ]
        if not all(same):
            raise ConfigError(
                f'--compare: expected reports on the same images and classes, but {folders[0]} has '
                f'{len(first.labels)} images of {len(first.classes)} classes and {folder} '
                f'{len(other.labels)} of {len(other.classes)}, '
                f'{"in another order or with other labels" if same[1] else "of other names"}. Write '
                'both with the same data and the same --images.'
            )
    known = first.labels >= 0
    if not first.classes or not known.any():
        raise ConfigError('--compare: expected images with one label each, but these have none.')
    found = [
        replace(
            one,
            indices=one.indices[known],
            labels=one.labels[known],
            predicted=one.predicted[known],
        )
        for one in found
    ]
    return write(out, 'compare.html', _view(found, list(map(str, folders))))


def _names(found: Sequence[Predictions], folders: Sequence[str]) -> list[str]:
    """What students are called: their titles, with the folder where two have the same."""
    titles = [one.title for one in found]
    return [
        title if titles.count(title) == 1 else f'{title} ({Path(folder).name})'
        for title, folder in zip(titles, folders)
    ]


def _view(found: Sequence[Predictions], folders: Sequence[str]) -> dict[str, Any]:
    names, classes, labels = _names(found, folders), found[0].classes, found[0].labels
    right = np.stack([one.predicted == labels for one in found])
    counts = np.bincount(labels, minlength=len(classes))
    by_class = np.stack(
        [np.bincount(labels[row], minlength=len(classes)) / np.maximum(counts, 1) for row in right]
    )
    spread = by_class.max(0) - by_class.min(0)
    rows = [
        dict(name=classes[label], images=int(counts[label]), shares=by_class[:, label].tolist())
        for label in np.flatnonzero(counts).tolist()
    ]
    order = [label for label in np.argsort(-spread, kind='stable').tolist() if spread[label] > 0]
    alone = right & (right.sum(0) == 1)
    students = [
        dict(
            name=name,
            accuracy=float(right[i].mean()),
            alone=int(alone[i].sum()),
            pictures=_pictures(found, names, i, np.flatnonzero(alone[i])),
        )
        for i, name in enumerate(names)
    ]
    return dict(
        title='Students side by side',
        sections=[
            ('overview', 'Overview'),
            ('classes', 'Accuracy by class'),
            ('images', 'Images that one gets right'),
        ],
        images=len(labels),
        students=students,
        all_right=int(right.all(0).sum()),
        none_right=int((~right).all(0).sum()),
        pairs=[[int((a & ~b).sum()) for b in right] for a in right],
        rows=rows,
        different=[
            dict(name=classes[k], shares=by_class[:, k].tolist()) for k in order[:MOST_DIFFERENT]
        ],
    )


def _pictures(
    found: Sequence[Predictions], names: Sequence[str], own: int, places: np.ndarray
) -> list[dict[str, Any]]:
    """Images that one student alone gets right: what the others take them for."""
    shown = []
    first = found[0]
    for place in places:
        index = int(first.indices[place])
        picture = next((one.pictures[index] for one in found if index in one.pictures), None)
        if picture is None:
            continue
        answers = [
            (names[i], one.classes[one.predicted[place]] if one.predicted[place] >= 0 else '–')
            for i, one in enumerate(found)
            if i != own
        ]
        label = first.classes[first.labels[place]]
        shown.append(dict(picture=data_uri(picture), label=label, answers=answers, number=index))
        if len(shown) == ALONE_RIGHT:
            break
    return shown
