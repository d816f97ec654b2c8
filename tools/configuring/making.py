"""From two names and a folder to a config that trains."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from cli import check_out_file
from mmkdlayer.atomic import replacing
from mmkdlayer.checkpoints import read_state_dict
from mmkdlayer.deploy.flops import count_flops
from mmkdlayer.errors import CheckpointError, ConfigError, DataError

from .budget import MEASURED, choose_sizes, describe
from .checking import check_config
from .data_folder import DataFolder, read_data_folder
from .dkd import check_dkd
from .networks import Network, build_network, image_channels, load_network
from .pair import Pair, PairOptions
from .places import Place, choose_places
from .probing import probe
from .recipes import num_centroids, num_components
from .template import baseline_text, config_text, dkd_text, teacher_text

#: Training images below which a teacher is better fine-tuned than trained from scratch.
FEW_IMAGES = 50_000


def make_config(options: PairOptions) -> Pair:
    """Probe a pair, write its config (and those derived from it) and check that it runs.

    Raises:
        ConfigError: A network, a place or an option does not fit.
        DataError: The data folder does not fit.
        OSError: A file can't be written.
    """
    outputs = options.outputs
    if len(set(map(os.path.abspath, outputs))) < len(outputs):
        raise ConfigError(
            '--out, --teacher-out, --baseline-out and --dkd-out must be different files, but are '
            f'{outputs}.'
        )
    for out in outputs:
        if Path(out).exists() and not options.force:
            raise ConfigError(f'{out} already exists. Choose another name, or add --force.')
        if Path(out).suffix != '.py':
            raise ConfigError(f'{out}: a config needs a name that ends in .py.')
        check_out_file(out)
    pair, with_dkd = plan(options), bool(options.dkd or options.dkd_out)
    with replacing(options.out) as trial:  # a config that does not run never appears
        trial.write_text(config_text(pair), encoding='utf-8')
        try:
            distiller = check_config(trial, pair.image_size, with_dkd)
        except ConfigError as error:
            places = '; '.join(f'{layer}: {places}' for layer, places in pair.places.items())
            raise ConfigError(
                f'{error} The places are {places}; --inter, --penult, --teacher-inter and '
                '--teacher-penult choose others, and --letkd1 leaves "inter" out.'
            ) from error
        if with_dkd:
            check_dkd(distiller, len(pair.data.classes))
    for name, text in (
        (options.teacher_out, teacher_text),
        (options.baseline_out, baseline_text),
        (options.dkd_out, dkd_text),
    ):
        if name:
            with replacing(name) as file:
                file.write_text(text(pair), encoding='utf-8')
    return pair


def plan(options: PairOptions) -> Pair:
    """Find out everything about a pair; raises what ``make_config`` raises."""
    if options.letkd1:
        for name in ('inter', 'teacher_inter'):
            if getattr(options, name) is not None:
                raise ConfigError(
                    f'--{name.replace("_", "-")} {getattr(options, name)}: --letkd1 leaves the '
                    'intermediate layer out. Give one of the two options.'
                )
    data = read_data_folder(options.data)
    teacher = load_network(options.teacher, 'teacher', len(data.classes))
    student = load_network(options.student, 'student', len(data.classes))
    image_size = options.image_size or student.image_size
    checkpoint = options.teacher_ckpt or teacher.weights
    if checkpoint and '://' not in checkpoint:
        checkpoint = os.path.abspath(os.path.expanduser(checkpoint))
        if not os.path.isfile(checkpoint):
            raise ConfigError(f'--teacher-ckpt {options.teacher_ckpt}: there is no such file.')
    layers = ('penult',) if options.letkd1 else ('inter', 'penult')
    found, channels = [], []
    for role, network, prefix in (('student', student, ''), ('teacher', teacher, 'teacher_')):
        model = build_network(network.model, role)
        channels.append(image_channels(model))
        if role == 'student' and options.max_extra_flops is not None:
            flops = count_flops(model.eval(), (channels[0], image_size, image_size))['']
        trace = probe(model, image_size, role, network.name)
        names = {layer: getattr(options, prefix + layer) for layer in layers}
        found.append(choose_places(trace, names))
    pairs = {layer: (found[0][layer], found[1][layer]) for layer in layers}
    places = {layer: f'student {one}, teacher {other}' for layer, (one, other) in pairs.items()}
    reasons = [
        f'{layer}, {role}: {place.note}.'
        for layer, pair in pairs.items()
        for role, place in zip(('student', 'teacher'), pair)
        if place.note
    ]
    chosen, fed_forward = options, set(layers)
    if options.max_extra_flops is not None:
        shapes = {layer: one.shape for layer, (one, _) in pairs.items()}
        _, height, width = shapes['penult']
        sizes = choose_sizes(
            flops * options.max_extra_flops / 100,
            {layer: 2 * math.prod(shape) for layer, shape in shapes.items()},
            len(data.classes),
            options.num_subclasses,
            options.num_centroids or num_centroids(data.images * height * width),
        )
        chosen = replace(
            options, num_subclasses=sizes.num_subclasses, num_centroids=sizes.num_centroids
        )
        fed_forward = set(sizes.fed_forward)
    kd_layers = {layer: _kd_layer(layer, *pair, data, chosen) for layer, pair in pairs.items()}
    for layer in set(layers) - fed_forward:
        kd_layers[layer]['alpha'] = 0.0
    hints = [
        f'{layer}: the map is only {one.shape[1]}x{one.shape[2]}, and a KD layer compares its regions. '
        f'A larger --image-size than {image_size} or another network gives more of them.'
        for layer, (one, _) in pairs.items()
        if max(one.shape[1:]) <= 2
    ]
    if options.max_extra_flops is not None:
        reasons.append(describe(sizes, flops, options.max_extra_flops, kd_layers))
        hints.append(MEASURED)
    check_channels(teacher, *channels)
    start = find_start(options, teacher)
    if options.teacher_out and start is None and data.images < FEW_IMAGES:
        hints.append(
            f'The teacher starts from scratch, for which {data.images} images are few. Weights for '
            'other classes, such as those of ImageNet, are a better start: --teacher-init FILE.'
        )
    if data.images < FEW_IMAGES:
        weights = student.published or 'WEIGHTS'
        hints.append(
            f'The student starts from scratch, for which {data.images} images are few. Weights for '
            f'other classes are a better start: add --init-from {weights} to the command that trains it.'
        )
    if start and image_size < teacher.image_size / 2:
        hints.append(
            f'The teacher starts from weights for images of {teacher.image_size}x{teacher.image_size}, '
            f'and gets {image_size}x{image_size} here. Look at its accuracy; --image-size '
            f'{teacher.image_size} fits them.'
        )
    return Pair(
        options=options,
        image_size=image_size,
        data=data,
        teacher=teacher,
        student=student,
        checkpoint=checkpoint,
        places=places,
        reasons=reasons,
        kd_layers=kd_layers,
        hints=hints,
        channels=channels[0],
        teacher_start=start,
    )


def check_channels(teacher: Network, student_channels: int, teacher_channels: int) -> None:
    """Both networks take the same images, of 1 or 3 channels; the normalisation gets as many."""
    if student_channels != teacher_channels or student_channels not in (1, 3):
        raise ConfigError(
            f'The student takes images of {student_channels} channels, the teacher of '
            f'{teacher_channels}. Both get the same images, of 3 channels or 1 (gray): choose another '
            'network, or set in_channels of the backbone in a config of its own.'
        )
    normalisation = teacher.normalisation
    if student_channels == 1:
        normalisation['to_rgb'] = False
        for key in ('mean', 'std'):
            values = normalisation[key]
            normalisation[key] = [round(sum(values) / len(values), 3)]


def find_start(options: PairOptions, teacher: Network) -> str | None:
    """The weights for other classes that the teacher's own training starts from.

    Raises:
        ConfigError: There is no such training, or no such file.
        CheckpointError: The file can't be read, or holds no backbone of mmpretrain.
    """
    start = options.teacher_init
    if start and not options.teacher_out:
        raise ConfigError(
            f"--teacher-init {start}: expected --teacher-out FILE beside it, the teacher's training "
            'that starts from these weights.'
        )
    if start == 'none' or not options.teacher_out:
        return None
    if start is None or '://' in start:
        return start or teacher.published
    start = os.path.abspath(os.path.expanduser(start))
    state, _ = read_state_dict(start)
    if not any(key.startswith('backbone.') for key in state):
        raise CheckpointError(
            f'--teacher-init {start}: expected weights of a classifier of mmpretrain, named '
            f'backbone..., but found {", ".join(list(state)[:3])}. Weights of torchvision: convert them '
            'with python -m mmkdlayer convert_teacher.'
        )
    return start


def _kd_layer(
    layer: str, student: Place, teacher: Place, data: DataFolder, options: PairOptions
) -> dict[str, Any]:
    """A layer's entry of ``kd_layers``, with a decision that the data are enough for."""
    _, height, width = student.shape
    if layer == 'penult':
        positions = data.images * height * width
        centroids = options.num_centroids or num_centroids(positions)
        if centroids > positions:
            raise ConfigError(
                f'--num-centroids {centroids}: the training images have only {positions} positions. '
                'Choose fewer.'
            )
        decision: dict[str, Any] = dict(type='mmkdlayer.CentroidDecision', num_centroids=centroids)
    else:
        if data.fewest * height * width < options.num_subclasses:
            raise DataError(
                f'--data {options.data}: the smallest class has {data.fewest} images of '
                f'{height}x{width} positions, too few for {options.num_subclasses} sub-classes. Give '
                'more images, a smaller --num-subclasses, or --letkd1.'
            )
        decision = dict(
            type='mmkdlayer.SubclassDecision',
            num_classes=len(data.classes),
            num_subclasses=options.num_subclasses,
            num_components=num_components(len(data.classes), teacher.shape[0]),
        )
    entry = dict(
        module=student.module,
        output_index=student.index,
        extra_tokens=student.extra_tokens,
        in_channels=student.shape[0],
        teacher=teacher.module,
        teacher_index=teacher.index,
        teacher_extra_tokens=teacher.extra_tokens,
        decision=decision,
    )
    return {key: value for key, value in entry.items() if value is not None}
