"""What a teacher's decision says about images, and how far a student agrees with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmkdlayer.models.decisions import CentroidDecision, SubclassDecision, TeacherDecision
from mmkdlayer.models.decisions.sizes import resize_to

from .nearest import Vocabulary

#: Distances or probabilities that are in memory at a time.
CHUNK = 1 << 24


class TeacherUse:
    """Which entry of the teacher's vocabulary each position is: its own sub-class, or its centroid.

    ``kept`` places are kept of each entry.
    """

    def __init__(self, decision: TeacherDecision, classes: int, kept: int = 5) -> None:
        self.decision = decision
        self.vocabulary = Vocabulary(decision.num_templates, classes, kept)

    def add(self, distances: Tensor, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Add images: distances (N, K, H, W) as :func:`vocabulary_distances` gives them.

        Returns the nearest entry at each position (N, H, W).
        """
        least, nearest = (found.cpu().numpy() for found in distances.min(1))
        self.vocabulary.count(nearest, labels)
        self.vocabulary.add(nearest, -least, images)
        return nearest


@torch.no_grad()
def vocabulary_distances(
    decision: Any, feature: Tensor, size: tuple[int, int], labels: Tensor | None
) -> Tensor:
    """How far each position is from each entry of a decision's vocabulary.

    Args:
        decision: A fitted CentroidDecision or SubclassDecision.
        feature: The teacher's map (N, D, H', W').
        size: (H, W) of the student's map.
        labels: Classes (N,); for a SubclassDecision, whose entries of other classes are infinitely far
            then.

    Returns:
        Distances (N, K, H, W).
    """
    feature = resize_to(feature, size).float()
    # All positions as rows: for batches of them cdist would copy the vocabulary for each image.
    rows = feature.permute(0, 2, 3, 1).flatten(0, 2)
    if isinstance(decision, CentroidDecision):
        vocabulary = decision.centroids
    else:
        rows = rows @ decision.projection.to(rows).t() + decision.offset.to(rows)
        vocabulary = decision.centers
    found = torch.cdist(rows, vocabulary.to(rows)).unflatten(0, (len(feature), -1))
    if labels is not None:
        classes = torch.arange(decision.num_templates, device=rows.device)
        classes = classes // decision.num_subclasses
        found.masked_fill_(classes != labels[:, None, None], float('inf'))
    return found.transpose(1, 2).unflatten(2, size)


class Agreement:
    """How often student and teacher name the same template, by position of the map and by class."""

    def __init__(self, decision: TeacherDecision, classes: int) -> None:
        self.decision = decision
        self.positions = self.hits = self.class_hits = 0
        self.divergence = self.highest = 0.0
        self.by_class = np.zeros((classes, 2), np.int64)
        #: Hits and positions of each cell (2, H, W), of maps of the first size that was seen.
        self.by_place: np.ndarray | None = None

    def add(
        self, scores: Tensor, target: Tensor, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Add images: the student's scores and the teacher's probabilities, (N, K, H, W) both.

        ``labels`` (N,) are -1 where there is none.

        Returns:
            The most probable template of each position (N, H, W): the student's, the teacher's.
        """
        log_q = scores.float().log_softmax(1)
        self.divergence += float(F.kl_div(log_q, target, reduction='sum'))
        highest, teacher = target.max(1)
        self.highest += float(highest.sum())
        student = scores.argmax(1)
        equal = (student == teacher).cpu().numpy()
        if isinstance(self.decision, SubclassDecision):
            size = self.decision.num_subclasses
            self.class_hits += int((student // size == teacher // size).sum())
        self.positions += equal.size
        self.hits += int(equal.sum())
        known = labels >= 0
        np.add.at(self.by_class[:, 0], labels[known], equal[known].sum((1, 2)))
        np.add.at(self.by_class[:, 1], labels[known], equal[0].size)
        if self.by_place is None:
            self.by_place = np.zeros((2, *equal.shape[1:]), np.int64)
        if self.by_place.shape[1:] == equal.shape[1:]:
            self.by_place[0] += equal.sum(0)
            self.by_place[1] += len(equal)
        return student.cpu().numpy(), teacher.cpu().numpy()

    def share(self, hits: int | None = None) -> float:
        """The share of positions where both name the same template (or of other hits)."""
        return (self.hits if hits is None else hits) / max(1, self.positions)


def images_at_a_time(decision: TeacherDecision, size: tuple[int, int]) -> int:
    """How many images' distances or probabilities may be in memory together."""
    return max(1, CHUNK // max(1, decision.num_templates * size[0] * size[1]))
