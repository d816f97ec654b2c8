"""What is asked for a pair of networks, and what is found out about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .data_folder import DataFolder
from .networks import Network


@dataclass
class PairOptions:
    """What a user can ask for; None leaves a choice to this package."""

    teacher: str  #: model name, host config or file
    student: str  #: the same
    data: str  #: root of the class folders
    out: str  #: the config to write
    inter: str | None = None  #: student module of the intermediate KD layer
    penult: str | None = None  #: student module of the penultimate KD layer
    teacher_inter: str | None = None  #: teacher module that supervises the intermediate layer
    teacher_penult: str | None = None  #: teacher module that supervises the penultimate layer
    teacher_ckpt: str | None = None  #: weights of the teacher, trained on these data
    letkd1: bool = False  #: the penultimate layer alone
    image_size: int | None = None  #: side of the images, in pixels
    num_subclasses: int = 8  #: M, sub-classes a class
    num_centroids: int | None = None  #: K of the penultimate layer
    max_extra_flops: float | None = None  #: what KD layers may cost, in percent of the student
    epochs: int | None = None  #: length of the training
    batch_size: int | None = None  #: images a process and step
    rate: float | None = None  #: learning rate
    #: Second config to write, which trains the teacher on these data.
    teacher_out: str | None = None
    baseline_out: str | None = None  #: third config to write, which trains the student alone
    dkd: bool = False  #: DKD of the logits beside the KD layers
    dkd_out: str | None = None  #: fourth config to write, which has DKD and no KD layers
    teacher_init: str | None = None  #: weights that its training starts from; "none" for none
    force: bool = False  #: replace files that are there

    @property
    def outputs(self) -> list[str]:
        """The configs to write."""
        files = (self.out, self.teacher_out, self.baseline_out, self.dkd_out)
        return [out for out in files if out]


@dataclass
class Pair:
    """Everything that is known about a pair before its config is written."""

    options: PairOptions  #: what was asked for
    image_size: int
    data: DataFolder
    teacher: Network
    student: Network
    checkpoint: str | None  #: the teacher's weights
    places: dict[str, str]  #: by layer: where both networks have it, for people
    reasons: list[str]  #: why a place is not where one would expect it, for people
    kd_layers: dict[str, dict[str, Any]]  #: as in the config
    hints: list[str]  #: what may be better otherwise, for people
    channels: int = 3  #: of the images: 3, or 1 for gray ones
    #: Weights for other classes that the teacher is fine-tuned from.
    teacher_start: str | None = None
