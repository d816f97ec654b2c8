"""Which teachers an algorithm has, and to which of them a recorder belongs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.teachers import NoTeacher, is_function
from mmkdlayer.type_names import type_name


@dataclass(frozen=True)
class Teacher:
    """One of an algorithm's teachers."""

    name: str  #: its name before the sources of recorders; empty for an only teacher
    model: nn.Module  #: the network
    config: Mapping[str, Any]  #: its config
    checkpoint: str | None  #: the file that the config loads into it, or None

    def source(self, source: str) -> str:
        """A recorder's source, as this teacher names it."""
        return source[len(self.name) + 1 :] if self.name else source


def find_teachers(algorithm: Any, model_cfg: Mapping[str, Any]) -> list[Teacher]:
    """The teachers of an mmrazor algorithm: ``teacher``, a group of them, ``teachers``, or none."""
    own = model_cfg.get('teacher') or {}
    group = getattr(getattr(algorithm, 'teacher', None), 'members', None)
    if group is not None:
        checkpoints, configs = algorithm.teacher.checkpoints, own.get('teachers') or {}
        return [
            Teacher(name, model, configs.get(name) or {}, checkpoints.get(name))
            for name, model in group.items()
        ]
    if isinstance(getattr(algorithm, 'teacher', None), NoTeacher):
        return []
    if hasattr(algorithm, 'teacher'):
        return [Teacher('', algorithm.teacher, own, model_cfg.get('teacher_ckpt'))]
    configs = model_cfg.get('teachers') or {}
    found = []
    for name, model in getattr(algorithm, 'teachers', {}).items():
        entry = configs.get(name) or {}
        found.append(Teacher(name, model, entry.get('build_cfg') or {}, entry.get('ckpt_path')))
    return found


def teacher_of(source: str, teachers: list[Teacher]) -> Teacher:
    """The teacher that has a recorder's source.

    Raises:
        ConfigError: None of them does.
    """
    for teacher in teachers:
        if not teacher.name or source.startswith(f'{teacher.name}.'):
            return teacher
    raise ConfigError(
        f'The teacher feature is recorded at "{source}", but the teachers are '
        f'{[teacher.name for teacher in teachers]}. Begin the source with the name of one, such as '
        f'"{teachers[0].name if teachers else "teacher"}.backbone.layer4".'
    )


def loads_weights(config: Any) -> bool:
    """Whether a network's config loads weights: an init_cfg Pretrained, ``pretrained``, ``weights``.

    A function that is the source of a TeacherModule loads its weights by itself.
    """
    if isinstance(config, Mapping):
        if type_name(config.get('type')) == 'TeacherModule' and (
            config.get('weights') or is_function(config.get('source'))
        ):
            return True
        return (
            bool(config.get('pretrained'))
            or type_name(config.get('type')) in ('Pretrained', 'PretrainedInit')
            or any(map(loads_weights, config.values()))
        )
    return isinstance(config, (list, tuple)) and any(map(loads_weights, config))
