"""How good the teacher and its decisions are, on some validation images: said before training."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine import dist
from mmengine.logging import MMLogger
from torch import Tensor

from mmkdlayer.models.evaluating import evaluating
from mmkdlayer.pipelines import in_order

from .feature_stream import FeatureStream
from .streamed_images import refuse_unreadable
from .supervision import SupervisedLayer

# Probabilities that are held at once.
_MOST_ELEMENTS = 1 << 24
# Standard deviations above chance that a teacher must reach.
_CERTAIN = 3
# Of what was not counted.
_NOTHING = torch.zeros((), dtype=torch.float64)


def report_quality(
    algorithm: Any, layers: Sequence[SupervisedLayer], cfg: Any, images: int
) -> None:
    """Log how good the teachers and their fitted decisions are, and warn of a teacher near chance.

    All ranks must call it. Nothing that goes wrong here ends the training. At most ``images``
    evenly spaced validation images are looked at; none where that is 0, or without
    ``val_dataloader`` in the config.
    """
    loader = cfg.get('val_dataloader')
    if not images or not loader:
        return
    logger = MMLogger.get_current_instance()
    try:
        found: Any = measure(algorithm, layers, loader, images)
    except Exception as error:  # of any data set, or teacher that is no classifier
        found = f'{type(error).__name__}: {error}'
    gathered = dist.all_gather_object(found)
    failed = [other for other in gathered if isinstance(other, str)]
    if failed:
        logger.warning(f'The teacher could not be measured on validation images ({failed[0]}).')
        return
    for name, counts in total(guesses for guesses, _ in gathered).items():
        logger.info(describe_teacher(name, counts))
        if is_near_chance(counts):
            logger.warning(
                f'THE TEACHER{name and f" {name!r}"} IS NEAR CHANCE on the validation images: the '
                'student would learn noise from it. Check its checkpoint, that it was trained on these '
                'classes in this order, and the normalisation (data_preprocessor) of its images.'
            )
    for name, counts in total(shares for _, shares in gathered).items():
        logger.info(describe_decision(name, counts))


def total(parts: Any) -> dict[str, Tensor]:
    """The sum of counts by name."""
    found: dict[str, Tensor] = defaultdict(lambda: _NOTHING)
    for part in parts:
        for name, counts in part.items():
            found[name] = found[name] + counts
    return found


@torch.no_grad()
def measure(
    algorithm: Any, layers: Sequence[SupervisedLayer], loader: Any, images: int
) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Count on this rank's share of the images, in one pass: of each teacher and each decision.

    Images without one label each count for decisions that need none.
    """
    stream = FeatureStream(algorithm, layers, in_order(loader), most=images)
    classes = len((getattr(stream.dataset, 'metainfo', None) or {}).get('classes') or ()) or None
    guesses, shares = [], []
    with evaluating(*stream.models):
        for batch in stream.loader:
            refuse_unreadable(batch, ())
            features, samples, outputs = stream.run_teachers(batch)
            given = [sample.get('gt_label') for sample in samples]
            single = all(label is not None and label.numel() == 1 for label in given)
            labels = torch.cat([label.flatten() for label in given]).cpu() if single else None
            guesses.append(
                {name: count_guesses(out, labels, classes) for name, out in outputs.items()}
            )
            ready = [layer for layer in layers if single or not layer.decision.needs_labels]
            shares.append(
                {each.name: count_shares(each, features[each.name], labels) for each in ready}
            )
    return dict(total(guesses)), dict(total(shares))


def count_guesses(logits: Any, labels: Tensor | None, classes: int | None = None) -> Tensor:
    """Of a batch of logits (N, C): images, right ones, guesses of each class, (2 + C,) in float64.

    Nothing is counted of another output, such as features or the scores of other classes than the data
    set's (another number of them), or without labels (N,).
    """
    scores = isinstance(logits, Tensor) and logits.dim() == 2 and logits.shape[1] > 1
    scores = scores and classes in (None, logits.shape[1])
    if labels is None or not scores:
        return _NOTHING
    guesses = logits.argmax(1).cpu()
    counts = torch.bincount(guesses, minlength=logits.shape[1])
    whole = torch.tensor([len(labels), int((guesses == labels).sum())])
    return torch.cat([whole, counts]).double()


def count_shares(layer: SupervisedLayer, feature: Tensor, labels: Tensor | None) -> Tensor:
    """How a decision distributes its templates over the positions of features (N, D, H, W).

    Labels (N,) are those of a decision that needs them. (3 + K,), float64: the number of positions,
    the sums of the highest probabilities and of the shares of the image's own class (sub-classes
    alone), and how often each template is the most likely one.
    """
    decision, size = layer.decision, layer.size
    step = max(1, _MOST_ELEMENTS // (decision.num_templates * size[0] * size[1]))
    found = torch.zeros(3 + decision.num_templates, dtype=torch.float64)
    for start in range(0, len(feature), step):
        own = None
        if labels is not None and decision.needs_labels:
            own = labels[start : start + step].to(feature.device)
        shares = decision.decide(feature[start : start + step], own, size).flatten(2)
        highest, places = shares.max(1)
        found[0] += places.numel()
        found[1] += float(highest.double().sum())
        if own is not None:
            classes = shares.unflatten(1, (int(decision.num_classes), -1)).sum(2)
            found[2] += float(classes[torch.arange(len(own)), own].double().sum())
        found[3:] += torch.bincount(places.flatten().cpu(), minlength=decision.num_templates)
    return found


def is_near_chance(counts: Tensor) -> bool:
    """Whether a teacher may as well guess: no more hits than that gives, or one class named alone."""
    if not counts.dim():
        return False
    (images, right), guesses = counts[:2].tolist(), counts[2:]
    chance = 1 / len(guesses)
    spread = math.sqrt(images * chance * (1 - chance))
    return right <= images * chance + _CERTAIN * spread or bool((guesses > 0).sum() == 1)


def describe_teacher(name: str, counts: Tensor) -> str:
    """One line on a teacher."""
    title = f'Teacher{name and f" {name!r}"}'
    if not counts.dim():
        return f'{title}: not measured (no scores of these classes, or no single labels).'
    images, right = counts[:2].tolist()
    return (
        f'{title}: {100 * right / images:.2f} % of {images:.0f} validation images right (chance: '
        f'{100 / (len(counts) - 2):.2f} %).'
    )


def describe_decision(name: str, counts: Tensor) -> str:
    """One line on a decision."""
    (positions, highest, own), places = counts[:3].tolist(), counts[3:]
    line = (
        f'Decision "{name}": {int((places > 0).sum())} of {len(places)} templates are the most likely '
        f'one somewhere in {positions:.0f} positions of these images, with probability '
        f'{highest / positions:.2f} on average'
    )
    if own:
        line += f'; {own / positions:.2f} falls to the own class of the image'
    return f'{line}.'
