"""What is collected for a report: statistics of layers, and a few examples."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mmkdlayer.models.decisions import TeacherDecision

from .teacher_use import Agreement, TeacherUse
from .template_use import TemplateUse


@dataclass
class LayerExample:
    """What one layer does with an example; maps (H, W) of templates' numbers.

    Attributes:
        own: The teacher's: the nearest sub-class of the image's class, or centroid; None without.
        decided: The most probable template by the teacher's decision; None without.
        student: The most probable one of the student.
        strongest: Templates that match best somewhere on the image, the best first.
        shares: Their shares at each position, (templates, H, W), 0 to 1.
    """

    student: np.ndarray
    strongest: list[int]
    shares: np.ndarray
    own: np.ndarray | None = None
    decided: np.ndarray | None = None


@dataclass
class Example:
    """An image that is shown as a whole: a JPEG file, and its width by its height."""

    index: int
    label: int
    predicted: int
    picture: bytes
    ratio: float = 1.0
    layers: dict[str, LayerExample] = field(default_factory=dict)


@dataclass
class LayerFindings:
    """Statistics of a layer: of the student, and where a teacher was run of the teacher."""

    use: TemplateUse
    decision: TeacherDecision | None = None
    teacher: TeacherUse | None = None
    agreement: Agreement | None = None
    before: Agreement | None = None


@dataclass
class Findings:
    """What was collected.

    Attributes:
        classes: Names; empty where images have no single labels.
        layers: By name.
        examples: Images that are shown as a whole.
        indices: Of the images, in the data set.
        labels: Their classes, -1 where there is none.
        predicted: What the student says, -1 where that is not one class.
        teachers: What each teacher says, by its name.
        mistakes: Small pictures (JPEG files) of images that the student gets wrong, by index.
    """

    classes: list[str]
    layers: dict[str, LayerFindings] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)
    indices: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    predicted: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    teachers: dict[str, np.ndarray] = field(default_factory=dict)
    mistakes: dict[int, bytes] = field(default_factory=dict)
