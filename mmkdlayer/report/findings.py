"""What is collected for a report: statistics of layers, and a few examples."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mmkdlayer.models.decisions import TeacherDecision

from .teacher_use import Agreement, TeacherUse
from .template_use import TemplateUse


@dataclass
class LayerExample:
    """What one layer does with an example; maps (H, W) of templates' numbers."""

    student: np.ndarray  #: the most probable template of the student
    strongest: list[int]  #: templates that match best somewhere on the image, the best first
    shares: np.ndarray  #: their shares at each position, (templates, H, W), 0 to 1
    #: The teacher's: the nearest sub-class of the image's class, or centroid; None without.
    own: np.ndarray | None = None
    #: The most probable template by the teacher's decision; None without.
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
    """What was collected."""

    classes: list[str]  #: names; empty where images have no single labels
    layers: dict[str, LayerFindings] = field(default_factory=dict)  #: by name
    examples: list[Example] = field(default_factory=list)  #: images that are shown as a whole
    #: Of the images, in the data set.
    indices: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    #: Their classes, -1 where there is none.
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    #: What the student says, -1 where that is not one class.
    predicted: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    #: What each teacher says, by its name.
    teachers: dict[str, np.ndarray] = field(default_factory=dict)
    #: Small pictures (JPEG files) of images that the student gets wrong, by index.
    mistakes: dict[int, bytes] = field(default_factory=dict)
