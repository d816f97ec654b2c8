"""Sizes of KD layers that cost at most a share of what the student costs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

#: Fewer centroids, or sub-classes a class, are not chosen: no study here trains with less.
LEAST_CENTROIDS, LEAST_SUBCLASSES = 256, 2
#: Which layers feed forward, the best first; by the paper's ablation ``inter`` alone beats ``penult``.
ORDER = (('inter', 'penult'), ('inter',), ('penult',), ())
#: What is known of accuracy; a test compares it with studies/results/photographs/results.json.
MEASURED = (
    'what accuracy a budget keeps must be measured on your data, by a study. Measured here is one '
    'pair in 6 epochs (ResNet-56 teaches ResNet-20, 100 classes at 32x32; both layers fed forward, 2 '
    'sub-classes a class): top-1 is 28.79 with 256 centroids and 23.33 with 1024, 20.53 with 4096 and 8 '
    'sub-classes; 19.33 of the student alone, 29.51 of KD and 33.52 of DKD of the logits, which cost '
    'nothing at inference. So in few steps fewer centroids than the budget allows may be better '
    '(--num-centroids), or templates that learn faster: 31.39 with 4096 and 8 sub-classes '
    '(docs/train.md). With both alphas 0 it is 19.67 with 4096 centroids and 28.47 with 256, no '
    'difference seen. See studies/results/photographs/page.md.'
)


class Sizes(NamedTuple):
    """What a budget leaves."""

    num_subclasses: int  #: M, sub-classes a class
    num_centroids: int  #: K of the penultimate layer
    #: Layers with alpha 1; the others have 0, are removed by folding, and cost nothing.
    fed_forward: tuple[str, ...]
    cost: int  #: multiply-adds of the folded layers for one image


def choose_sizes(
    budget: float,
    per_template: Mapping[str, int],
    num_classes: int,
    most_subclasses: int,
    most_centroids: int,
) -> Sizes:
    """The largest KD layers within a budget: M and K are halved before a layer is not fed forward.

    Args:
        budget: Multiply-adds for one image, at most.
        per_template: Multiply-adds of one template of each layer: 2*C*H*W once it is folded.
        num_classes: C of the data.
        most_subclasses: The largest M.
        most_centroids: The largest K.
    """
    subclasses = _halves(most_subclasses, LEAST_SUBCLASSES)
    centroids = _halves(most_centroids, LEAST_CENTROIDS)
    for fed in ORDER:
        if not set(fed) <= set(per_template):
            continue
        few = subclasses if 'inter' in fed else subclasses[:1]
        for m, k in itertools.product(few, centroids if 'penult' in fed else centroids[:1]):
            templates = dict(inter=num_classes * m, penult=k)
            cost = sum(templates[layer] * per_template[layer] for layer in fed)
            if cost <= budget:
                return Sizes(m, k, fed, cost)
    raise ValueError(f'Expected a budget of 0 or more, but got {budget}.')


def _halves(most: int, least: int) -> list[int]:
    """A number, its half, and so on down to the least; the number alone where it is below."""
    values = [most]
    while values[-1] // 2 >= least:
        values.append(values[-1] // 2)
    return values


def describe(sizes: Sizes, flops: int, share: float, kd_layers: Mapping[str, Any]) -> str:
    """What was chosen and what it costs, for people."""
    layers = []
    for name, layer in kd_layers.items():
        decision = layer['decision']
        size = (
            f'{decision["num_centroids"]} centroids'
            if 'num_centroids' in decision
            else f'{decision["num_subclasses"]} sub-classes a class'
        )
        fed = '' if name in sizes.fed_forward else ', not fed forward (alpha 0)'
        layers.append(f'{name} has {size}{fed}')
    return (
        f'Budget: folded, the KD layers add {sizes.cost / 1e6:.3g} M multiply-adds to the '
        f'{flops / 1e6:.4g} M of the student ({sizes.cost / flops:.1%}; at most '
        f'{share:.3g}% was asked for): {"; ".join(layers)}.'
    )
