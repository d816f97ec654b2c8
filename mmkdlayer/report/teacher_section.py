"""Section 1 of the page: what the teacher tells apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mmkdlayer.models.decisions import SubclassDecision, TeacherDecision

from . import charts
from .decision_table import TableRows, read_rows
from .findings import Example, Findings, LayerFindings
from .pictures import colour, colour_map, data_uri, png

#: Centroids that are shown, those that most positions are nearest to; colours of a map of them.
MOST_CENTROIDS, MOST_COLOURS = 24, 8
#: Rows of a table that are named as the most and the least spread.
EXTREMES = 5

Strip = Callable[[str, int], str]


def wanted_entries(layer: LayerFindings, shown: Sequence[int]) -> list[int]:
    """The entries of a teacher's vocabulary whose nearest places are shown."""
    decision, teacher = layer.decision, layer.teacher
    if teacher is None:
        return []
    if isinstance(decision, SubclassDecision):
        size = decision.num_subclasses
        return [label * size + number for label in shown for number in range(size)]
    return np.argsort(-teacher.vocabulary.counts, kind='stable')[:MOST_CENTROIDS].tolist()


def teacher_view(
    name: str, findings: Findings, shown: Sequence[int], strip: Strip
) -> dict[str, Any] | None:
    """What the template shows of a layer's decision; None where there is no decision.

    ``strip`` gives the pictures of an entry's nearest places, as a URI.
    """
    layer = findings.layers[name]
    decision = layer.decision
    if decision is None:
        return None
    view: dict[str, Any] = dict(name=name, templates=decision.num_templates)
    names = findings.classes
    if not isinstance(decision, SubclassDecision):
        return dict(view, kind='centroids', **_centroids(name, layer, findings, strip))
    names = names or [str(label) for label in range(decision.num_classes)]
    rows = read_rows(decision)
    view.update(kind='sub-classes', density=rows.density, **_spread(rows, names, decision))
    classes = []
    size = decision.num_subclasses
    counts = layer.teacher.vocabulary.counts if layer.teacher else None
    for label in shown if names else ():
        parts = []
        total = 0 if counts is None else int(counts[label * size : (label + 1) * size].sum())
        for number in range(size):
            entry = label * size + number
            parts.append(
                dict(
                    _row(rows, entry, names),
                    number=number,
                    colour='#{:02x}{:02x}{:02x}'.format(*colour(number)),
                    strip=strip(name, entry) if layer.teacher else '',
                    share=None if counts is None or not total else counts[entry] / total,
                )
            )
        own = [one for one in findings.examples if one.label == label]
        maps = [_pictures(one, name, decision) for one in own]
        classes.append(dict(name=names[label], label=label, parts=parts, examples=maps))
    return dict(view, classes=classes, hidden=len(names) - len(classes))


def _row(rows: TableRows, entry: int, names: Sequence[str]) -> dict[str, Any]:
    rivals = zip(rows.rivals[entry], rows.rival_shares[entry])
    return dict(
        own=rows.own[entry],
        own_class=rows.own_class[entry],
        perplexity=rows.perplexity[entry],
        rivals=[(names[label], share) for label, share in rivals if share >= 0.005],
    )


def _spread(rows: TableRows, names: Sequence[str], decision: SubclassDecision) -> dict[str, Any]:
    """How the rows of the whole table spread."""
    size = decision.num_subclasses
    top = max(2.0, float(np.ceil(rows.perplexity.max())))
    counts, _ = np.histogram(rows.perplexity, bins=40, range=(1, top))
    order = np.argsort(rows.perplexity, kind='stable')

    def named(entries: Iterable[int]) -> list[dict[str, Any]]:
        return [dict(_row(rows, e, names), name=names[e // size], number=e % size) for e in entries]

    return dict(
        own_mean=float(rows.own.mean()),
        own_class_mean=float(rows.own_class.mean()),
        perplexity_mean=float(rows.perplexity.mean()),
        spread=charts.columns(
            counts.tolist(),
            ('1: one peak', f'{top:.0f}: flat'),
            f'Rows of the table by how many sub-classes they spread over, from 1 to {top:.0f}',
        ),
        peaky=named(order[:EXTREMES]),
        flat=named(order[::-1][:EXTREMES]),
    )


def overlays_of(
    example: Example, name: str, decision: TeacherDecision | None
) -> list[tuple[str, Any]]:
    """Maps of what the teacher, if it was run, and the student see at each place of an example.

    Sub-classes of the image's class have a colour each: faint where the teacher decides for another
    class, none where the student does. Of other templates the most frequent ones have colours, the
    same in both maps.

    Returns:
        Who sees it, and an image of one pixel for each position.
    """
    maps, label = example.layers[name], example.label
    if isinstance(decision, SubclassDecision) and label >= 0:
        size = decision.num_subclasses
        own = np.where(maps.student // size == label, maps.student % size, -1)
        found = [('student', colour_map(own))]
        if maps.own is not None:
            faint = None if maps.decided is None else maps.decided // size != label
            found.insert(0, ('teacher', colour_map(maps.own % size, faint)))
        return found
    first = maps.student if maps.own is None else maps.own
    numbers, counts = np.unique(first, return_counts=True)
    frequent = numbers[np.argsort(-counts, kind='stable')][:MOST_COLOURS]

    def coloured(templates: np.ndarray) -> Any:
        result = np.full(templates.shape, -1)
        for number, template in enumerate(frequent):
            result[templates == template] = number
        return colour_map(result)

    teacher = [] if maps.own is None else [('teacher', coloured(maps.own))]
    return [*teacher, ('student', coloured(maps.student))]


def _pictures(example: Example, name: str, decision: TeacherDecision | None) -> dict[str, Any]:
    overlays = overlays_of(example, name, decision)
    return dict(
        picture=data_uri(example.picture),
        ratio=f'{example.ratio:.4f}',
        number=example.index,
        right=example.label == example.predicted,
        predicted=example.predicted,
        overlays=[(who, data_uri(png(image), 'png')) for who, image in overlays],
    )


def _centroids(
    name: str, layer: LayerFindings, findings: Findings, strip: Strip
) -> Mapping[str, Any]:
    """The centroids that most positions are nearest to."""
    if layer.teacher is None:
        return dict(centroids=[], examples=[])
    vocabulary = layer.teacher.vocabulary
    positions = max(1, int(vocabulary.counts.sum()))
    centroids = []
    for entry in wanted_entries(layer, ()):
        if not vocabulary.counts[entry]:
            continue
        centroids.append(
            dict(
                number=entry,
                strip=strip(name, entry),
                share=vocabulary.counts[entry] / positions,
                classes=top_classes(vocabulary.by_class[entry], findings.classes),
            )
        )
    examples = [_pictures(one, name, layer.decision) for one in findings.examples[:24]]
    used = int((vocabulary.counts > 0).sum())
    highest = (
        layer.agreement.highest / max(1, layer.agreement.positions) if layer.agreement else None
    )
    return dict(centroids=centroids, examples=examples, used=used, highest=highest)


def top_classes(counts: np.ndarray, names: Sequence[str], most: int = 3) -> list[tuple[str, float]]:
    """The classes with the largest counts, each with its share."""
    total = counts.sum()
    order = np.argsort(-counts, kind='stable')[:most]
    return [(names[label], counts[label] / total) for label in order if counts[label] and names]
