"""Runs the networks over images once, and keeps what a report shows."""

from __future__ import annotations

import os
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
    number, beyond = 0, []
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
            labels, more = single_labels(data.get('data_samples'), count, len(found.classes))
            beyond += [number + i for i in more]
            numbers = np.arange(number, number + count)
            features: dict[str, Tensor] = {}
            outputs: dict[str, Any] = {}
            if networks.supervised:
                features, _, outputs = stream.run_teachers(batch)
            if not only_agreement:
                lists['labels'].append(labels)
                lists['predicted'].append(_predicted(results))
                for name, output in outputs.items():
                    teachers.setdefault(name, []).append(_guesses(output, count))
                said = lists['predicted'][-1].tolist()
                for i, label in enumerate(labels.tolist()):
                    if mistakes.wants(label, said[i]):
                        picture = to_image(batch['inputs'][i], images.bgr)
                        mistakes.add(images.index(number + i), label, picture)
            chosen = [] if only_agreement else wanted.choose(labels)
            fresh = []
            for i in chosen:
                picture = shrink(to_image(batch['inputs'][i], images.bgr))
                ratio = picture.width / picture.height
                fresh.append(Example(number + i, int(labels[i]), said[i], jpeg(picture), ratio))
            for name, watch in watches.items():
                if name not in found.layers:
                    found.layers[name] = _begin(networks, name, watch, len(found.classes), kept)
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
        if beyond and found.classes:
            networks.notes.append(
                f'{len(beyond):,} of the images count as unlabelled, such as '
                f'{os.path.basename(images.describe(beyond[0]))}: with {len(found.classes)} classes, '
                f'labels must be 0 to {len(found.classes) - 1}.'
            )
    return found


class _Wanted:
    """Chooses the first images of each class."""

    def __init__(self, each: int, classes: set[int] | None) -> None:
        self.each, self.classes = each, classes
        self.taken: dict[int, int] = {}

    def choose(self, labels: np.ndarray) -> list[int]:
        chosen = []
        for i, label in enumerate(labels.tolist()):
            limit = self.each if label >= 0 else 12
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
    if decision is not None and name in networks.supervised:
        found.teacher = TeacherUse(decision, classes, kept)
        found.agreement = Agreement(decision, classes)
    return found


def _add(
    found: LayerFindings,
    watch: LayerWatch,
    feature: Tensor | None,
    numbers: np.ndarray,
    labels: np.ndarray,
    only_agreement: bool,
) -> Callable[[int], LayerExample]:
    """Add a batch to a layer's statistics; returns what gives the maps of one of its images."""
    scores = watch.scores()
    matches = watch.matches(scores)
    if not only_agreement:
        found.use.add(watch, matches, numbers, labels)
    student = (matches if scores is None else scores).argmax(1).cpu().numpy()
    own: dict[int, np.ndarray] = {}
    decided: dict[int, np.ndarray] = {}
    if feature is not None and found.teacher is not None and found.agreement is not None:
        decision, size = found.teacher.decision, (matches.size(2), matches.size(3))
        usable = np.flatnonzero((labels >= 0) | (not decision.needs_labels))
        step = images_at_a_time(decision, size)
        for part in (usable[start : start + step] for start in range(0, len(usable), step)):
            seen = feature[torch.as_tensor(part, device=feature.device)]
            known = torch.as_tensor(labels[part], device=seen.device)
            label = known if decision.needs_labels else None
            if not only_agreement:
                distances = vocabulary_distances(decision, seen, size, label)
                own.update(zip(part, found.teacher.add(distances, numbers[part], labels[part])))
            target = decision.decide(seen, label, size)
            if scores is not None:
                answers = scores[torch.as_tensor(part, device=scores.device)]
                decided.update(zip(part, found.agreement.add(answers, target, labels[part])[1]))

    def maps(i: int) -> LayerExample:
        strongest = matches[i].amax((1, 2)).topk(min(16, matches.size(1))).indices
        shares = matches[i][strongest].cpu().numpy()
        fires = shares.max((1, 2)) > 0
        return LayerExample(
            student[i],
            strongest.cpu().numpy()[fires].tolist(),
            shares[fires],
            own.get(i),
            decided.get(i),
        )

    return maps


def single_labels(samples: Any, count: int, classes: int) -> tuple[np.ndarray, list[int]]:
    """The classes (N,) of images, -1 where one has not one of them, and which have a number beyond."""
    labels, beyond = np.full(count, -1), []
    for i, sample in enumerate(samples or ()):
        given = sample.get('gt_label')
        if given is None or given.numel() != 1:
            continue
        if 0 <= int(given) < classes:
            labels[i] = int(given)
        else:
            beyond.append(i)
    return labels, beyond


def _predicted(results: Sequence[Any]) -> np.ndarray:
    labels = [result.pred_label for result in results]
    return np.array([int(label) if label.numel() == 1 else -1 for label in labels])


def _guesses(output: Any, count: int) -> np.ndarray:
    if isinstance(output, Tensor) and output.dim() == 2:
        return output.argmax(1).cpu().numpy()
    return np.full(count, -1)
