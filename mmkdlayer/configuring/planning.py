"""What the user wants, and what is found out about the pair before anything is written."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from mmkdlayer.errors import ConfigError, DataError

from .data_folder import DataFolder, look_at
from .pairing import Sizes, build, centroids, check_sizes, choose_places, components
from .places import Place
from .recipes import default_batch_size
from .sources import Source, load_source, with_classes


@dataclass
class Wishes:
    """What the user asked for; None leaves a choice to this package.

    Attributes:
        teacher: Model name, host config or file.
        student: The same.
        data: Root of the class folders.
        out: The config to write.
        inter: Student module of the intermediate KD layer.
        penult: Student module of the penultimate KD layer.
        teacher_inter: Teacher module that supervises the intermediate layer.
        teacher_penult: Teacher module that supervises the penultimate layer.
        teacher_ckpt: Weights of the teacher, trained on these data.
        letkd1: The penultimate layer alone.
        image_size: Side of the images.
        num_subclasses: M, sub-classes a class.
        num_centroids: K of the penultimate layer.
        epochs: Length of the training.
        batch_size: Images a process and step.
        rate: Learning rate.
        teacher_out: Second config to write, which trains the teacher on these data.
        force: Replace files that are there.
    """

    teacher: str
    student: str
    data: str
    out: str
    inter: str | None = None
    penult: str | None = None
    teacher_inter: str | None = None
    teacher_penult: str | None = None
    teacher_ckpt: str | None = None
    letkd1: bool = False
    image_size: int | None = None
    num_subclasses: int = 8
    num_centroids: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    rate: float | None = None
    teacher_out: str | None = None
    force: bool = False


@dataclass
class Pair:
    """Everything that was found out about a pair.

    Attributes:
        wishes: What was asked for, with the choices that were made.
        teacher: The teacher, for the data's classes.
        student: The student, for the data's classes.
        data: The data.
        teacher_places: Where the teacher is read, by layer.
        student_places: Where the KD layers go.
        sizes: Sizes of the decisions.
        checkpoint: The teacher's weights, or None.
    """

    wishes: Wishes
    teacher: Source
    student: Source
    data: DataFolder
    teacher_places: dict[str, Place]
    student_places: dict[str, Place]
    sizes: Sizes
    checkpoint: str | None


def plan(wishes: Wishes) -> Pair:
    """Find out everything about a pair, without writing.

    Raises:
        ConfigError: A network, a place or an option does not fit.
        DataError: The data folder does not fit.
    """
    data = look_at(wishes.data)
    classes = len(data.classes)
    teacher = load_source(wishes.teacher, 'teacher')
    student = load_source(wishes.student, 'student')
    image_size = wishes.image_size or student.image_size
    checkpoint = wishes.teacher_ckpt
    if checkpoint and '://' not in checkpoint:
        checkpoint = os.path.abspath(checkpoint)
        if not os.path.isfile(checkpoint):
            raise ConfigError(f'--teacher-ckpt {wishes.teacher_ckpt}: there is no such file.')
    if checkpoint is None and teacher.num_classes == classes:
        checkpoint = teacher.weights
    layers = ('penult',) if wishes.letkd1 else ('inter', 'penult')
    places = {}
    for role, source in (('teacher', teacher), ('student', student)):
        source.model = with_classes(source.model, classes)
        prefix = 'teacher_' if role == 'teacher' else ''
        names = {layer: getattr(wishes, prefix + layer) for layer in layers}
        places[role] = choose_places(
            build(source.model, role), names, image_size, role, source.name
        )
    for layer in layers:
        check_sizes(layer, places['teacher'][layer], places['student'][layer])

    _, height, width = places['student']['penult'].shape
    positions = data.images * height * width
    sizes = Sizes(
        num_classes=classes,
        num_subclasses=wishes.num_subclasses,
        num_components=0
        if wishes.letkd1
        else components(classes, places['teacher']['inter'].shape[0]),
        num_centroids=wishes.num_centroids or centroids(positions),
    )
    if sizes.num_centroids > positions:
        raise ConfigError(
            f'--num-centroids {sizes.num_centroids}: the training images have only {positions} '
            'positions. Choose fewer.'
        )
    if not wishes.letkd1:
        _, height, width = places['student']['inter'].shape
        if data.fewest * height * width < wishes.num_subclasses:
            raise DataError(
                f'--data {wishes.data}: the smallest class has {data.fewest} images of '
                f'{height}x{width} positions, too few for {wishes.num_subclasses} sub-classes. Give '
                'more images, a smaller --num-subclasses, or --letkd1.'
            )
    chosen = replace(
        wishes,
        image_size=image_size,
        batch_size=wishes.batch_size or default_batch_size(image_size),
    )
    return Pair(
        chosen, teacher, student, data, places['teacher'], places['student'], sizes, checkpoint
    )
