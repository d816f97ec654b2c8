"""What a decision is fitted on: written into its file, compared before it is used again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process

from mmkdlayer.fitting.distributed import errors_on_all_ranks

from .feature_stream import FeatureStream
from .fingerprints import describe_dataset, describe_preprocessor, hash_json, hash_model
from .supervision import SupervisedLayer
from .teachers import Teacher

#: What must be the same for a stored decision to be used again.
IDENTITY = ('teacher', 'layer', 'size', 'data', 'fitting')


def describe_provenance(
    stream: FeatureStream,
    teachers: Mapping[str, Teacher],
    shapes: Mapping[str, tuple[Sequence[int], Sequence[int]]],
    options: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    """What the decision of each layer is fitted on, the same on all ranks.

    Args:
        stream: The features; labels are checked on the way.
        teachers: The teacher of each layer.
        shapes: See :meth:`FeatureStream.shapes`.
        options: How to fit, as far as the result depends on it.

    Raises:
        DataError: There are no images, or a label that is needed is missing or out of range.
    """
    found: list[Any] = [None]
    with errors_on_all_ranks():
        if is_main_process():
            unique = {teacher.name: teacher for teacher in teachers.values()}
            described = {name: describe_teacher(teacher) for name, teacher in unique.items()}
            data = describe_data(stream, unique.values())
            found[0] = {
                layer.name: dict(
                    teacher=described[teachers[layer.name].name],
                    layer=describe_layer(stream, layer, teachers[layer.name]),
                    size=list(shapes[layer.name][1][1:]),
                    data=data,
                    fitting=dict(options),
                )
                for layer in stream.layers
            }
    broadcast_object_list(found)
    return found[0]


def describe_data(stream: FeatureStream, teachers: Iterable[Teacher]) -> dict[str, Any]:
    """The images, and what is done to them."""
    algorithm = stream.algorithm
    models = [algorithm.student, *(teacher.model for teacher in teachers)]
    parts: list[Any] = [getattr(model, 'head', None) for model in models]
    parts += [layer.decision for layer in stream.layers]
    classes = [int(part.num_classes) for part in parts if getattr(part, 'num_classes', None)]
    data = describe_dataset(stream.dataset, min(classes, default=None), stream.needs_labels)
    preprocessor = describe_preprocessor(algorithm.data_preprocessor)
    return dict(data, transform=hash_json([stream.pipeline, preprocessor]))


def describe_teacher(teacher: Teacher) -> dict[str, Any]:
    """A teacher's weights (a hash), where they come from, and its config."""
    config: Any = teacher.config
    return dict(
        weights=hash_model(teacher.model),
        checkpoint=str(teacher.checkpoint),
        config=config.to_dict() if hasattr(config, 'to_dict') else dict(config),
    )


def describe_layer(
    stream: FeatureStream, layer: SupervisedLayer, teacher: Teacher
) -> dict[str, Any]:
    """Which output of its teacher the features are."""
    record = layer.feature
    recorder = stream.algorithm.distiller.teacher_recorders.get_recorder(record['recorder'])
    indices = {key: record[key] for key in ('record_idx', 'data_idx') if record.get(key)}
    return dict(source=teacher.source(recorder.source), recorder=type(recorder).__name__, **indices)


def teacher_fingerprint(teacher: Mapping[str, Any] | None) -> str:
    """Weights and config in one: the same weights with other strides are another teacher."""
    teacher = teacher or {}
    return f'{teacher.get("weights")}-{hash_json(teacher.get("config"))}'


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """One phrase for each part of the identity that differs, naming both values."""
    phrases = []
    for key in IDENTITY:
        ours, theirs = expected.get(key), found.get(key)
        if key == 'teacher':
            ours, theirs = teacher_fingerprint(ours), teacher_fingerprint(theirs)
        if ours != theirs:
            phrases.append(f'{key} is {theirs!r} in the file and {ours!r} now')
    return phrases
