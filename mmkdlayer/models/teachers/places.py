"""A teacher that is only named: for what needs the student of a config alone, such as its export."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.model import BaseModel
from torch import nn

from mmkdlayer.registry import MODELS
from mmkdlayer.type_names import type_name


@MODELS.register_module()
class TeacherPlaces(BaseModel):
    """Has modules of the names that are read of a teacher, and computes nothing.

    So neither the teacher's library nor its weights are needed.

    Args:
        names: Dotted names of modules.
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        for name in names:
            module: nn.Module = self
            for part in name.split('.'):
                if part not in dict(module.named_children()):
                    module.add_module(part, nn.Identity())
                module = module.get_submodule(part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """There is nothing to compute with."""
        raise NotImplementedError('TeacherPlaces has the names of modules alone.')


def without_teacher_modules(model: Mapping[str, Any]) -> dict[str, Any]:
    """The config of an algorithm with :class:`TeacherPlaces` for each TeacherModule."""
    names = sorted(set(_names_read(model.get('distiller') or {})))

    def replaced(value: Any, prefix: str = '') -> Any:
        if not isinstance(value, Mapping):
            return value
        if type_name(value.get('type')) == 'TeacherModule':
            own = [name[len(prefix) :] for name in names if name.startswith(prefix)]
            return dict(type='mmkdlayer.TeacherPlaces', names=own)
        if 'teachers' not in value:
            return value
        members = {
            name: replaced(member, f'{prefix}{name}.') for name, member in value['teachers'].items()
        }
        return dict(value, teachers=members)

    return dict(model, teacher=replaced(model['teacher'])) if 'teacher' in model else dict(model)


def _names_read(distiller: Mapping[str, Any]) -> Iterator[str]:
    """Names of the teacher's modules that a distiller's config reads."""
    for layer in (distiller.get('kd_layers') or {}).values():
        if layer.get('teacher'):
            yield layer['teacher']
    for recorder in (distiller.get('teacher_recorders') or {}).values():
        if recorder and recorder.get('source'):
            yield recorder['source']
