"""Runs the networks over images once, and keeps what a report shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmkdlayer.engine.streamed_images import refuse_unreadable
from mmkdlayer.models.evaluating import evaluating

from .findings import Example, Findings, LayerExample, LayerFindings
from .images import Images, bar
from .networks import Networks
from .pictures import jpeg, shrink, to_image
from .predictions import MistakePictures
from .teacher_use import Agreement, TeacherUse, images_at_a_time, vocabulary_distances
from .template_use import LayerWatch, TemplateUse


@torch.no_grad()
def collect(
    networks: Networks,
    images: Images,
    examples: int = 2,
    shown: Sequence[int] | None = None,
    kept: int = 5,
    only_agreement: bool = False,
) -> Findings:
    """Run student and teacher over images.

    Args:
        networks: With the weights that are meant.
        images: The images.
        examples: Images of each class that are kept as a whole.
        shown: Classes of which there are any; None for all.
        kept: Places that are kept of each template.
        only_agreement: Leave out everything but the agreement with the teacher.

    Raises:
        DataError: Images can't be read.
    """
    found = Findings(images.class_names(networks.student))
    stream, student = images.stream, networks.student
    number = 0
    lists: dict[str, list[np.ndarray]] = {'labels': [], 'predicted': []}
    teachers: dict[str, list[np.ndarray]] = {}
    mistakes = MistakePictures(len(found.classes))
    wanted = _Wanted(examples, None if shown is None else set(shown))
    with evaluating(student, *stream.models), watching(networks) as watches:
        for batch in bar(stream.loader, 'images', len(stream.loader)):
            refuse_unreadable(batch, ())
            data = networks.preprocessor(batch, False)
            results = student(data['inputs'], data.get('data_samples'), mode='predict')
            count = len(results)
            labels = single_labels(data.get('data_samples'), len(found.classes))
            numbers = np.arange(number, number + count)
            features: dict[str, Tensor] = {}
            outputs: dict[str, Any] = {}
            if networks.supervised:
                features, _, outputs = stream.run_teachers(batch)
            if not only_agreement:
                lists['labels'].append(np.full(count, -1) if labels is None else labels)
                lists['predicted'].append(_predicted(results))
                for name, output in outputs.items():
                    teachers.setdefault(name, []).append(_guesses(output, count))
                for i in range(count):
                    label, said = int(lists['labels'][-1][i]), int(lists['predicted'][-1][i])
                    if mistakes.wants(label, said):
                        picture = to_image(batch['inputs'][i], images.bgr)
                        mistakes.add(images.index(number + i), label, picture)
            chosen = [] if only_agreement else wanted.choose(labels, count)
            fresh = []
            for i in chosen:
                label, said = (int(lists[key][-1][i]) for key in ('labels', 'predicted'))
                picture = shrink(to_image(batch['inputs'][i], images.bgr))
                ratio = picture.width / picture.height
                fresh.append(Example(number + i, label, said, jpeg(picture), ratio))
            for name, watch in watches.items():
                if name not in found.layers:
                    classes = len(found.classes) if labels is not None else 0
                    found.layers[name] = _begin(networks, name, watch, classes, kept)
                layer = found.layers[name]
                maps = _add(layer, watch, features.get(name), numbers, labels, only_agreement)
                for example, i in zip(fresh, chosen):
                    example.layers[name] = maps(i)
            found.examples += fresh
            number += count
    found.mistakes = mistakes.pictures
    found.indices = np.array([images.index(i) for i in range(number)])
    if not only_agreement:
        found.labels, found.predicted = (np.concatenate(lists[key]) for key in lists)
        found.teachers = {name: np.concatenate(parts) for name, parts in teachers.items()}
        if (found.labels < 0).all():
            found.classes = []
    return found


class _Wanted:
    """Chooses the first images of each class."""

    def __init__(self, each: int, classes: set[int] | None) -> None:
        self.each, self.classes = each, classes
        self.taken: dict[int, int] = {}

    def choose(self, labels: np.ndarray | None, count: int) -> list[int]:
        chosen = []
        for i in range(count):
            label = -1 if labels is None else int(labels[i])
            limit = self.each if labels is not None else 12
            if self.classes is not None and label >= 0 and label not in self.classes:
                continue
            if self.taken.get(label, 0) < limit:
                self.taken[label] = self.taken.get(label, 0) + 1
                chosen.append(i)
        return chosen


@contextmanager
def watching(networks: Networks) -> Iterator[dict[str, LayerWatch]]:
    """Watch all KD layers of a student, by name."""
    watches = {name: LayerWatch(layer) for name, layer in networks.layers.items()}
    try:
        yield watches
    finally:
        for watch in watches.values():
            watch.remove()


def _begin(
    networks: Networks, name: str, watch: LayerWatch, classes: int, kept: int
) -> LayerFindings:
    decision = networks.decisions.get(name)
    found = LayerFindings(TemplateUse(watch.layer, classes, kept), decision)
    usable = decision is not None and (classes or not decision.needs_labels)
    if usable and name in networks.supervised:
        assert decision is not None
        found.teacher = TeacherUse(decision, classes, kept)
        found.agreement = Agreement(decision, classes)
    return found


def _add(
    found: LayerFindings,
    watch: LayerWatch,
    feature: Tensor | None,
    numbers: np.ndarray,
    labels: np.ndarray | None,
    only_agreement: bool,
) -> Callable[[int], LayerExample]:
    """Add a batch to a layer's statistics; returns what gives the maps of one of its images."""
    scores = watch.scores()
    matches = watch.matches(scores)
    if not only_agreement:
        found.use.add(watch, matches, numbers, labels)
    student = (matches if scores is None else scores).argmax(1).cpu().numpy()
    own: list[np.ndarray] = []
    decided: list[np.ndarray] = []
    if feature is not None and found.teacher is not None and found.agreement is not None:
        decision, size = found.teacher.decision, (matches.size(2), matches.size(3))
        step = images_at_a_time(decision, size)
        for start in range(0, len(numbers), step):
            part = slice(start, start + step)
            classes = None if labels is None else labels[part]
            needed = classes is not None and decision.needs_labels
            label = torch.as_tensor(classes, device=feature.device) if needed else None
            if not only_agreement:
                distances = vocabulary_distances(decision, feature[part], size, label)
                own.extend(found.teacher.add(distances, numbers[part], classes))
            target = decision.decide(feature[part], label, size)
            if scores is not None:
                decided.extend(found.agreement.add(scores[part], target, classes)[1])

    def maps(i: int) -> LayerExample:
        strongest = matches[i].amax((1, 2)).topk(min(16, matches.size(1))).indices
        shares = matches[i][strongest].cpu().numpy()
        fires = shares.max((1, 2)) > 0
        return LayerExample(
            student[i],
            strongest.cpu().numpy()[fires].tolist(),
            shares[fires],
            own[i] if own else None,
            decided[i] if decided else None,
        )

    return maps


def single_labels(samples: Any, classes: int) -> np.ndarray | None:
    """The classes (N,) of images that have one each; None where any has not."""
    given = [sample.get('gt_label') for sample in samples or ()]
    if not given or any(label is None or label.numel() != 1 for label in given):
        return None
    labels = torch.cat([label.flatten() for label in given]).cpu().numpy().astype(np.int64)
    return labels if ((labels >= 0) & (labels < classes)).all() else None


def _predicted(results: Sequence[Any]) -> np.ndarray:
    labels = [result.pred_label for result in results]
    return np.array([int(label) if label.numel() == 1 else -1 for label in labels])


def _guesses(output: Any, count: int) -> np.ndarray:
    if isinstance(output, Tensor) and output.dim() == 2:
        return output.argmax(1).cpu().numpy()
    return np.full(count, -1)
