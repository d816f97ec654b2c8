"""What a decision is fitted on: written into its file, compared before it is used again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine import dist
from mmengine.config import ConfigDict

from mmkdlayer.fitting.distributed import errors_on_all_ranks, from_first_rank
from mmkdlayer.models.connectors.teacher_feature import TeacherFeature
from mmkdlayer.models.decisions import TeacherDecision
from mmkdlayer.models.teachers import describe_view

from .agreement import compare_over_ranks
from .feature_stream import FeatureStream
from .fingerprints import (
    describe_dataset,
    describe_preprocessor,
    hash_json,
    hash_model,
    hash_tensors,
    without_paths,
)
from .supervision import SupervisedLayer

#: What must be the same for a stored decision to be used again.
IDENTITY = ('teacher', 'layer', 'size', 'data', 'fitting')


def describe_provenance(stream: FeatureStream, options: Mapping[str, Any]) -> None:
    """Say of each layer what its decision is fitted on, the same on all ranks.

    ``options`` are those that the result depends on. Labels are checked on the way.

    Raises:
        ConfigError: Ranks have other teachers, data or given decisions.
        DataError: There are no images, or a label that is needed is missing or out of range.
    """
    with errors_on_all_ranks():
        found = _describe_layers(stream, options)
        facts: dict[str, Any] = {}
        for layer, provenance in zip(stream.layers, found):
            parts = dict(provenance, weights=provenance['teacher']['weights'])
            del parts['teacher']  # where its checkpoint is may differ
            if layer.decision.is_fitted and dist.get_world_size() > 1:
                parts['decision'] = hash_decision(layer.decision)
            facts.update({f'{layer.key}: {part}': value for part, value in parts.items()})
    compare_over_ranks(facts)
    for layer, provenance in zip(stream.layers, from_first_rank(lambda: found)):
        layer.provenance = provenance


def _describe_layers(stream: FeatureStream, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    teachers = {
        name: dict(
            weights=hash_model(teacher.model),
            checkpoint=str(teacher.checkpoint),
            config=ConfigDict(teacher.config).to_dict(),
        )
        for name, teacher in stream.teachers.items()
    }
    data = _describe_data(stream)
    found = {name: describe_view(teacher.model) for name, teacher in stream.teachers.items()}
    views = {name: dict(view=view) if view else {} for name, view in found.items()}
    return [
        dict(
            teacher=teachers[layer.teacher.name],
            layer=describe_layer(stream, layer),
            size=list(layer.size),
            data=dict(data, **views[layer.teacher.name]),
            fitting=dict(options),
        )
        for layer in stream.layers
    ]


def hash_decision(decision: TeacherDecision) -> str:
    """Hash of a decision's tables and settings."""
    tables = {name: getattr(decision, name, None) for name in decision.table_names}
    there = {name: table for name, table in tables.items() if table is not None}
    return hash_json([decision.options(), hash_tensors(there)])


def _describe_data(stream: FeatureStream) -> dict[str, Any]:
    """The images, and what is done to them."""
    algorithm = stream.algorithm
    models = [algorithm.student, *stream.models]
    parts: list[Any] = [getattr(model, 'head', None) for model in models]
    parts += [layer.decision for layer in stream.layers]
    classes = [int(part.num_classes) for part in parts if getattr(part, 'num_classes', None)]
    data = describe_dataset(
        stream.dataset, min(classes, default=None), stream.needs_labels, stream.backend_args
    )
    preprocessor = describe_preprocessor(algorithm.data_preprocessor)
    return dict(data, transform=hash_json([without_paths(stream.pipelines), preprocessor]))


def describe_layer(stream: FeatureStream, layer: SupervisedLayer) -> dict[str, Any]:
    """Which output of its teacher the features are."""
    record = layer.feature
    recorder = stream.algorithm.distiller.teacher_recorders.get_recorder(record['recorder'])
    indices = {key: record[key] for key in ('record_idx', 'data_idx') if record.get(key)}
    connectors = getattr(stream.algorithm.distiller, 'connectors', {})
    connector = connectors[record['connector']] if record.get('connector') else None
    if isinstance(connector, TeacherFeature):
        indices.update(connector.identity())
    source = layer.teacher.source(recorder.source)
    return dict(source=source, recorder=type(recorder).__name__, **indices)


def identity_of(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a description that must be the same, without what depends on the place.

    Weights and config of the teacher are one: the same weights with other strides are another teacher.
    """
    parts = {key: provenance.get(key) for key in IDENTITY}
    if isinstance(parts['teacher'], Mapping):
        config = hash_json(without_paths(parts['teacher'].get('config')))
        parts['teacher'] = f'{parts["teacher"].get("weights")}-{config}'
    return parts


def teacher_weights(provenance: Mapping[str, Any]) -> Any:
    """The fingerprint of the teacher's weights; None if the description has none."""
    teacher = provenance.get('teacher')
    return teacher.get('weights') if isinstance(teacher, Mapping) else None


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """One phrase for each part of the identity that differs, naming both values."""
    ours, theirs = identity_of(expected), identity_of(found)
    return [
        f'{key} is {theirs[key]!r} in the file and {ours[key]!r} now'
        for key in IDENTITY
        if ours[key] != theirs[key]
    ]
