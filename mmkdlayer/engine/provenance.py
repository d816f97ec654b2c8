"""What a decision was fitted on: written into its file, compared before it is used again."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .fingerprints import hash_json, hash_model
from .teachers import Teacher

#: What must be the same for a stored decision to be used again.
IDENTITY = ('teacher', 'layer', 'size', 'data', 'fitting')


def describe_teacher(teacher: Teacher) -> dict[str, Any]:
    """A teacher's weights (a hash), where they come from, and its config."""
    config: Any = teacher.config
    return dict(
        weights=hash_model(teacher.model),
        checkpoint=str(teacher.checkpoint),
        config=config.to_dict() if hasattr(config, 'to_dict') else dict(config),
    )


def describe_layer(distiller: Any, record: Mapping[str, Any], teacher: Teacher) -> dict[str, Any]:
    """Which output of its teacher the features are."""
    recorder = distiller.teacher_recorders.get_recorder(record['recorder'])
    indices = {k: record[k] for k in ('record_idx', 'data_idx') if record.get(k)}
    return dict(source=teacher.source(recorder.source), recorder=type(recorder).__name__, **indices)


def installed_versions() -> dict[str, str]:
    """Versions that a result may depend on."""
    versions = dict(python=platform.python_version())
    for package in ('mmkdlayer', 'torch', 'mmengine', 'mmpretrain', 'mmrazor', 'numpy'):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


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
