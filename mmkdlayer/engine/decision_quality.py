"""How good the teacher and its decisions are, on some validation images: said before training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
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


@dataclass
class TeacherTally:
    """How often a teacher is right, on one rank or on all.

    Attributes:
        images: Number of images with one label each.
        right: How many of them it classifies rightly.
        predicted: How often it predicts each class, (C,), int64.
    """

    images: int = 0
    right: int = 0
    predicted: Any = 0

    def add(self, logits: Any, labels: Tensor) -> None:
        """Count a batch: logits (N, C), or another output, which tells nothing."""
        if isinstance(logits, Tensor) and logits.dim() == 2 and logits.shape[1] > 1:
            guesses = logits.argmax(1).cpu()
            self.images += len(labels)
            self.right += int((guesses == labels).sum())
            self.predicted = self.predicted + torch.bincount(guesses, minlength=logits.shape[1])

    def merge(self, other: TeacherTally) -> None:
        """Add what another rank has counted."""
        self.images += other.images
        self.right += other.right
        self.predicted = self.predicted + other.predicted


@dataclass
class DecisionTally:
    """How a decision distributes its templates over positions, on one rank or on all.

    Attributes:
        positions: Number of positions.
        most_likely: How often each template is the most likely one, (K,), int64.
        highest: Sum of the highest probabilities.
        own_class: Sum of the shares of the image's own class (sub-classes alone).
    """

    positions: int = 0
    most_likely: Any = 0
    highest: float = 0.0
    own_class: float = 0.0

    def add(self, layer: SupervisedLayer, feature: Tensor, labels: Tensor | None) -> None:
        """Count a batch of features (N, D, H, W) with labels (N,) where the decision needs them."""
        decision, size = layer.decision, (layer.size[0], layer.size[1])
        step = max(1, _MOST_ELEMENTS // (decision.num_templates * size[0] * size[1]))
        for start in range(0, len(feature), step):
            own = None if labels is None else labels[start : start + step].to(feature.device)
            shares = decision.decide(feature[start : start + step], own, size).flatten(2)
            highest, places = shares.max(1)
            counts = torch.bincount(places.flatten().cpu(), minlength=decision.num_templates)
            self.positions += places.numel()
            self.most_likely = self.most_likely + counts
            self.highest += float(highest.double().sum())
            if own is not None:
                classes = shares.unflatten(1, (int(decision.num_classes), -1)).sum(2)
                self.own_class += float(classes[torch.arange(len(own)), own].double().sum())

    def merge(self, other: DecisionTally) -> None:
        """Add what another rank has counted."""
        self.positions += other.positions
        self.most_likely = self.most_likely + other.most_likely
        self.highest += other.highest
        self.own_class += other.own_class


@dataclass
class Tallies:
    """Those of all teachers and decisions, by name."""

    teachers: dict[str, TeacherTally] = field(default_factory=dict)
    decisions: dict[str, DecisionTally] = field(default_factory=dict)


def report_quality(
    algorithm: Any, layers: Sequence[SupervisedLayer], cfg: Any, images: int
) -> None:
    """Log how good the teachers and their fitted decisions are, and warn of a teacher near chance.

    All ranks must call it. Nothing that goes wrong here ends the training.

    Args:
        algorithm: The distillation algorithm.
        layers: Its supervised layers, with their teachers and fitted decisions.
        cfg: The training config; without ``val_dataloader`` nothing is measured.
        images: Number of evenly spaced validation images, at most; 0 for none.
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
    total = Tallies()
    for tallies in gathered:
        for name, teacher in tallies.teachers.items():
            total.teachers.setdefault(name, TeacherTally()).merge(teacher)
        for name, decision in tallies.decisions.items():
            total.decisions.setdefault(name, DecisionTally()).merge(decision)
    for name, teacher in total.teachers.items():
        logger.info(describe_teacher(name, teacher))
        if is_near_chance(teacher):
            logger.warning(
                f'THE TEACHER{name and f" {name!r}"} IS NEAR CHANCE on the validation images: the '
                'student would learn noise from it. Check its checkpoint, that it was trained on these '
                'classes in this order, and the normalisation (data_preprocessor) of its images.'
            )
    for name, decision in total.decisions.items():
        logger.info(describe_decision(name, decision))


@torch.no_grad()
def measure(algorithm: Any, layers: Sequence[SupervisedLayer], loader: Any, images: int) -> Tallies:
    """Count on this rank's share of the images, in one pass of the teachers."""
    config = in_order(
        loader, loader['dataset'], loader.get('batch_size', 1), loader.get('num_workers', 0)
    )
    stream = FeatureStream(algorithm, layers, config, most=images)
    found = Tallies({name: TeacherTally() for name in stream.teachers})
    with evaluating(*stream.models):
        for batch in stream.loader:
            refuse_unreadable(batch, ())
            features, samples, outputs = stream.run_teachers(batch)
            labels = [sample.get('gt_label') for sample in samples]
            single = all(label is not None and label.numel() == 1 for label in labels)
            flat = torch.cat([label.flatten() for label in labels]).cpu() if single else None
            for name, teacher in found.teachers.items():
                if flat is not None:
                    teacher.add(outputs[name], flat)
            for layer in layers:
                needed = layer.decision.needs_labels
                if flat is not None or not needed:
                    tally = found.decisions.setdefault(layer.name, DecisionTally())
                    tally.add(layer, features[layer.name], flat if needed else None)
    return found


def is_near_chance(teacher: TeacherTally) -> bool:
    """Whether a teacher may as well guess: no more hits than that gives, or one class named alone."""
    if not teacher.images:
        return False
    chance = 1 / len(teacher.predicted)
    spread = math.sqrt(teacher.images * chance * (1 - chance))
    guessed = teacher.right <= teacher.images * chance + _CERTAIN * spread
    return guessed or bool((teacher.predicted > 0).sum() == 1)


def describe_teacher(name: str, teacher: TeacherTally) -> str:
    """One line on a teacher."""
    if not teacher.images:
        return (
            f'Teacher{name and f" {name!r}"}: not measured (no class scores, or no single labels).'
        )
    return (
        f'Teacher{name and f" {name!r}"}: {100 * teacher.right / teacher.images:.2f} % of '
        f'{teacher.images} validation images right (chance: {100 / len(teacher.predicted):.2f} %).'
    )


def describe_decision(name: str, decision: DecisionTally) -> str:
    """One line on a decision."""
    used, templates = int((decision.most_likely > 0).sum()), len(decision.most_likely)
    line = (
        f'Decision "{name}": {used} of {templates} templates are the most likely one somewhere in '
        f'{decision.positions} positions of these images, with probability '
        f'{decision.highest / decision.positions:.2f} on average'
    )
    if decision.own_class:
        line += (
            f'; {decision.own_class / decision.positions:.2f} falls to the own class of the image'
        )
    return f'{line}.'
