"""Section 2 of the page: which templates the student matches, and what they add."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmkdlayer.models.decisions import SubclassDecision

from . import charts
from .findings import Findings, LayerFindings
from .pictures import data_uri, heat_map, png
from .teacher_section import Strip, top_classes
from .template_use import BINS

#: Templates that are listed as most and as least used, and images whose templates can be looked through.
LISTED, VIEWED = 12, 12


def viewed(findings: Findings) -> list[Any]:
    """The examples whose templates can be looked through: of as many classes as there are."""
    first = {example.label: example for example in reversed(findings.examples)}
    found = [first[label] for label in sorted(first)] if len(first) > 1 else findings.examples
    step = max(1, len(found) // VIEWED)
    return found[::step][:VIEWED]


def wanted_templates(name: str, findings: Findings) -> list[int]:
    """The templates of a layer whose nearest places are shown."""
    shown = [number for one in viewed(findings) for number in one.layers[name].strongest]
    return [*shown, *most_used(findings.layers[name]), *least_used(findings.layers[name])]


def most_used(layer: LayerFindings) -> list[int]:
    """The templates that match best at most positions."""
    counts = layer.use.vocabulary.counts
    return [k for k in np.argsort(-counts, kind='stable')[:LISTED].tolist() if counts[k]]


def least_used(layer: LayerFindings) -> list[int]:
    """Those that fire at fewest positions, but somewhere."""
    fires = layer.use.fires
    alive = [k for k in np.argsort(fires, kind='stable').tolist() if fires[k]]
    return alive[:LISTED]


def template_name(number: int, layer: LayerFindings, names: Sequence[str]) -> str:
    """A template as people read it: a class and the number of its sub-class, or a number."""
    decision = layer.decision
    if isinstance(decision, SubclassDecision) and names:
        label, own = divmod(number, decision.num_subclasses)
        return f'{names[label]} / {own}'
    return f'template {number}'


def student_view(name: str, findings: Findings, strip: Strip) -> dict[str, Any]:
    """What the template shows of a layer of the student.

    ``strip`` gives the pictures of a template's nearest places, as a URI.
    """
    layer, names = findings.layers[name], findings.classes
    use = layer.use
    positions = max(1, use.positions)

    def listed(numbers: Sequence[int]) -> list[dict[str, Any]]:
        return [
            dict(
                name=template_name(k, layer, names),
                strip=strip(name, k),
                fires=use.fires[k] / positions,
                strongest=use.vocabulary.counts[k] / positions,
                classes=top_classes(use.vocabulary.by_class[k], names),
            )
            for k in numbers
        ]

    share = np.sort(use.fires / positions)[::-1]
    steps = np.linspace(0, len(share) - 1, min(100, len(share))).round().astype(int)
    return dict(
        name=name,
        templates=use.templates,
        dead=len(use.dead),
        dead_names=[template_name(int(k), layer, names) for k in use.dead[:100]],
        alpha=use.alpha,
        scales=use.scales,
        ratio=use.ratio,
        mean_fires=float(use.fires.sum() / positions),
        usage=charts.columns(
            (100 * share[steps]).tolist(),
            ('the most used template', f'number {len(share):,}'),
            'Share of the positions, in percent, at which each template fires, the most used first',
        ),
        ratios=charts.columns(
            use.ratios.tolist(),
            ('0', f'{BINS[-1]:.0f} and more'),
            'Positions by the ratio of what the layer adds to what it is given',
        ),
        most=listed(most_used(layer)),
        least=listed(least_used(layer)),
        agreement=_agreement(layer, names),
        viewer=_viewer(name, findings, strip),
    )


def _agreement(layer: LayerFindings, names: Sequence[str]) -> dict[str, Any] | None:
    found = layer.agreement
    if found is None or not found.positions or found.by_place is None:
        return None
    subclasses = isinstance(layer.decision, SubclassDecision)
    shares = found.by_place[0] / np.maximum(found.by_place[1], 1)
    hits, positions = found.by_class.T if len(found.by_class) else (np.zeros(0), np.zeros(0))
    by_class = [
        (names[label], hits[label] / positions[label])
        for label in np.argsort(-hits / np.maximum(positions, 1), kind='stable')
        if positions[label]
    ]
    before = layer.before
    return dict(
        share=found.share(),
        chance=1 / found.decision.num_templates,
        same_class=found.share(found.class_hits) if subclasses else None,
        divergence=found.divergence / found.positions,
        before=before.share() if before else None,
        before_class=before.share(before.class_hits) if before and subclasses else None,
        before_divergence=before.divergence / max(1, before.positions) if before else None,
        places=data_uri(png(heat_map(shares / max(shares.max(), 1e-12))), 'png'),
        least=float(shares.min()),
        most=float(shares.max()),
        by_class=by_class,
    )


def _viewer(name: str, findings: Findings, strip: Strip) -> dict[str, Any]:
    """Data for the script: images, and the shares of their strongest templates at each position."""
    layer, names = findings.layers[name], findings.classes
    examples, strips = [], {}
    for example in viewed(findings):
        maps = example.layers[name]
        shares = np.round(255 * maps.shares).astype(np.uint8)
        examples.append(
            dict(
                picture=data_uri(example.picture),
                title=names[example.label] if names and example.label >= 0 else str(example.index),
                size=list(maps.student.shape),
                templates=maps.strongest,
                names=[template_name(k, layer, names) for k in maps.strongest],
                shares=base64.b64encode(shares.tobytes()).decode(),
            )
        )
        strips.update({k: strip(name, k) for k in maps.strongest})
    return dict(examples=examples, strips=strips)
