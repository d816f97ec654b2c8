"""Writes a report: runs the networks, and puts what was found on one page."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmkdlayer.errors import ConfigError
from mmkdlayer.version import installed_versions

from .collecting import collect
from .findings import Findings
from .images import Images, cut_patches, loader_key
from .measuring import measure, probe_geometry
from .networks import Networks
from .page import percent, write
from .pictures import data_uri, jpeg, strip
from .predictions import Predictions
from .student_section import student_view, wanted_templates
from .teacher_section import teacher_view, wanted_entries
from .teacher_use import Agreement

#: Classes that are shown with pictures, if none are named.
MOST_CLASSES = 100
#: Images on which the agreement before the training is measured.
BEFORE = 500


@dataclass(frozen=True)
class ReportOptions:
    """What a report shows."""

    images: int | None = None  #: of the validation images, at most, evenly spaced; None for all
    #: Names of the classes that are shown with pictures; None for up to 100 of them.
    classes: Sequence[str] | None = None
    examples: int = 2  #: images of each class that are shown as a whole
    patches: int = 5  #: regions that are shown of each sub-class and template
    #: Images of the geometry probe, of training and validation each; 0 for none.
    probe_images: int = 5000
    work_dir: str | os.PathLike | None = None  #: of the training, with its log; None without


def choose_classes(names: Sequence[str], wanted: Sequence[str] | None) -> list[int]:
    """The classes that are shown: those that are named, else evenly spaced ones.

    Raises:
        ConfigError: There is no class of this name.
    """
    if wanted is None:
        count = min(len(names), MOST_CLASSES)
        return [i * len(names) // count for i in range(count)]
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ConfigError(
            f'--classes: expected names of classes, such as {", ".join(names[:3])}, but there is no '
            f'{unknown[0]!r} among the {len(names)}.'
        )
    return [names.index(name) for name in wanted]


def write_report(
    networks: Networks,
    cfg: Any,
    out: str | os.PathLike,
    student: str,
    facts: Mapping[str, Any],
    options: ReportOptions,
    before: Mapping[str, Any] | None = None,
    others: Sequence[tuple[str, Networks, Any]] = (),
) -> Path:
    """Run the networks, and write their page; returns its path.

    Args:
        networks: With the weights that are meant.
        cfg: Their config, with the data.
        out: The folder.
        student: What the student is called.
        facts: What the report is of, in words, by name.
        options: What is shown.
        before: As :func:`agreement_before` gave it before the training.
        others: Further students of the geometry probe: names, networks and configs.

    Raises:
        ConfigError: The config has no images, or a class that is asked for is not there.
        DataError: Images can't be read.
    """
    key = loader_key(cfg)
    images = Images(networks, cfg[key], options.images)
    findings, view = examine(networks, images, options, before)
    view.update(measure(networks, images, options.work_dir))
    notes = networks.notes
    if options.probe_images:
        students = [(student, networks, cfg), *others]
        view['geometry'], more = probe_geometry(students, options.probe_images)
        notes = [*notes, *more]
    facts = {**facts, 'data': f'{key} of the config'}
    return write_page(out, student, facts, notes, findings, view)


def agreement_before(networks: Networks, cfg: Any) -> dict[str, Agreement]:
    """The agreement with the teacher on some images, by layer, of weights before the training."""
    if not networks.supervised:
        return {}
    images = Images(networks, cfg[loader_key(cfg)], BEFORE)
    found = collect(networks, images, only_agreement=True)
    return {name: layer.agreement for name, layer in found.layers.items() if layer.agreement}


def examine(
    networks: Networks,
    images: Images,
    options: ReportOptions,
    before: Mapping[str, Any] | None = None,
) -> tuple[Findings, dict[str, Any]]:
    """Run the networks over images, and make of it what the template shows in sections 1 and 2.

    ``before`` is the agreement with the teacher before training, by layer.
    """
    shown = choose_classes(images.class_names(networks.student), options.classes)
    findings = collect(networks, images, options.examples, shown, options.patches)
    for name, agreement in (before or {}).items():
        findings.layers[name].before = agreement
    shown = shown if findings.classes else []
    strips = _strips(images, findings, shown)
    teacher = [teacher_view(name, findings, shown, strips('teacher')) for name in findings.layers]
    return findings, dict(
        classes=findings.classes,
        teacher=[view for view in teacher if view],
        student=[student_view(name, findings, strips('student')) for name in findings.layers],
    )


def _strips(
    images: Images, findings: Findings, shown: Sequence[int]
) -> Callable[[str], Callable[[str, int], str]]:
    """Gives for 'teacher' or 'student' what gives the pictures of an entry of a layer."""
    vocabularies, entries = {}, {}
    for name, layer in findings.layers.items():
        vocabularies[f'student {name}'] = layer.use.vocabulary
        entries[f'student {name}'] = wanted_templates(name, findings)
        if layer.teacher is not None:
            vocabularies[f'teacher {name}'] = layer.teacher.vocabulary
            entries[f'teacher {name}'] = wanted_entries(layer, shown)
    patches = cut_patches(images, vocabularies, entries)
    made: dict[tuple[str, int], str] = {}

    def of(who: str) -> Callable[[str, int], str]:
        def uri(name: str, entry: int) -> str:
            key = (f'{who} {name}', int(entry))
            if key not in made:
                tiles = patches.get(key)
                made[key] = data_uri(jpeg(strip(tiles))) if tiles else ''
            return made[key]

        return uri

    return of


def write_page(
    out: str | os.PathLike,
    student: str,
    facts: Mapping[str, Any],
    notes: Sequence[str],
    findings: Findings,
    view: Mapping[str, Any],
) -> Path:
    """Write the page, and the predictions that a comparison reads; returns the path of the page.

    ``facts`` say what the report is of, ``notes`` what is not there; ``view`` has the sections.
    """
    versions = ', '.join(f'{name} {number}' for name, number in installed_versions().items())
    sections = [('overview', 'Overview')]
    if view['teacher']:
        sections.append(('teacher', '1. Teacher'))
    if view['student']:
        sections.append(('student', '2. Student'))
    if view.get('geometry'):
        sections.append(('geometry', '3. Geometry'))
    if view.get('curves') or view.get('costs'):
        sections.append(('costs', '4. Curves and cost'))
    Predictions(
        student,
        findings.classes,
        findings.indices,
        findings.labels,
        findings.predicted,
        findings.mistakes,
    ).save(out)
    return write(
        out,
        'report.html',
        dict(
            {'geometry': None, 'curves': None, 'costs': None, **view},
            title=f'What {student} learned',
            facts=list({**facts, **_accuracies(findings), 'versions': versions}.items()),
            notes=notes,
            sections=sections,
        ),
    )


def _accuracies(findings: Findings) -> dict[str, str]:
    """The accuracy of student and teachers on the images."""
    known = findings.labels >= 0
    found = {'images': f'{len(findings.labels):,}'}
    answers = {'student': findings.predicted}
    answers.update({f'teacher {name}'.strip(): one for name, one in findings.teachers.items()})
    for who, predicted in answers.items():
        if known.any() and (predicted >= 0).any():
            right = float((predicted == findings.labels)[known].mean())
            found[f'accuracy of the {who}'] = f'{percent(right, 2)} of these images'
    return found
