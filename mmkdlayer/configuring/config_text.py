"""The text of a pair's config: for a place inside the repository, or for anywhere."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .pairing import distiller_config
from .planning import Pair
from .recipes import data_config, schedule_config
from .writing import format_config

STOCK_RUNTIME = 'mmpretrain::_base_/default_runtime.py'


def config_text(pair: Pair, out: Path, bases: Path) -> str:
    """The config as Python text, for a file at ``out``."""
    wishes, data = pair.wishes, pair.data
    assert wishes.image_size is not None and wishes.batch_size is not None
    model: dict[str, Any] = dict(
        architecture={'_scope_': 'mmpretrain', **pair.student.model},
        teacher={'_scope_': 'mmpretrain', **pair.teacher.model},
        teacher_ckpt=pair.checkpoint,
        distiller=distiller_config(pair.teacher_places, pair.student_places, pair.sizes),
    )
    runtime: dict[str, Any] = {}
    method = bases / ('letkd1.py' if wishes.letkd1 else 'letkd2.py')
    imports = ['mmkdlayer', *pair.student.imports, *pair.teacher.imports]
    imports = list(dict.fromkeys(imports))
    own_imports = dict(imports=imports, allow_failed_imports=False)
    repository = bases.resolve().parents[1]
    if repository in out.resolve().parents:
        folder = out.resolve().parent
        base: Any = [
            Path(os.path.relpath(file, folder)).as_posix()
            for file in (method.resolve(), bases.resolve() / 'runtime.py')
        ]
        if len(imports) > 1:
            runtime['custom_imports'] = own_imports
    else:
        base = STOCK_RUNTIME
        model = in_reading_order(
            Config._merge_a_into_b(model, runpy.run_path(str(method))['model'])
        )
        runtime = {
            key: value
            for key, value in runpy.run_path(str(bases / 'runtime.py')).items()
            if not key.startswith('_')
        }
        runtime['custom_imports'] = own_imports
    loading = data_config(
        data, wishes.image_size, wishes.batch_size, dict(pair.teacher.normalisation)
    )
    schedule = schedule_config(
        wishes.image_size,
        wishes.batch_size,
        wishes.epochs,
        wishes.rate,
        str(pair.student.model['backbone'].get('type')),
    )
    sections = [('', {'_base_': base})]
    if runtime:
        sections.append(('What the plugin needs.', runtime))
    sections += [
        ('', dict(model=model)),
        ('The images, normalised as the teacher expects it.', loading),
        (_schedule_title(pair), schedule),
    ]
    return format_config(_header(pair), sections, _comments(pair))


def in_reading_order(model: dict[str, Any]) -> dict[str, Any]:
    """A merged model config with what is particular to the pair first."""

    def sort(values: dict, first: tuple[str, ...]) -> dict:
        return {key: values[key] for key in (*first, *(k for k in values if k not in first))}

    distiller = sort(model['distiller'], ('type', 'kd_layers', 'connectors'))
    model = dict(model, distiller=distiller)
    return sort(model, ('_scope_', 'type', 'architecture', 'teacher', 'teacher_ckpt'))


def _header(pair: Pair) -> str:
    wishes = pair.wishes
    lines = [
        f'letKD-{1 if wishes.letkd1 else 2}: {pair.teacher.name} teaches {pair.student.name},',
        f'{len(pair.data.classes)} classes, {pair.data.images} training images of '
        f'{wishes.image_size}x{wishes.image_size} pixels. Made by tools/make_config.py.',
        '',
    ]
    for layer, place in pair.student_places.items():
        lines.append(f'{layer}: student {place}, teacher {pair.teacher_places[layer]}')
    return '\n'.join(lines)


def _schedule_title(pair: Pair) -> str:
    title = (
        f'The published schedule, with the learning rate for {pair.wishes.batch_size} images a step; '
        'for several\nprocesses add --auto-scale-lr.'
    )
    own = pair.student.optimizer
    if own not in (None, 'SGD'):
        title += f" The student's own recipe is of {own}, which may suit it better."
    return title


def _comments(pair: Pair) -> dict[tuple, str]:
    sizes = pair.sizes
    counts = f'{sizes.num_centroids} centroids'
    if not pair.wishes.letkd1:
        counts = (
            f'{sizes.num_classes} classes x {sizes.num_subclasses} sub-classes = '
            f'{sizes.templates("inter")} templates; {counts}'
        )
    comments: dict[tuple, str] = {
        ('model', 'distiller', 'kd_layers'): 'where the student gets its KD layers',
        ('model', 'distiller', 'teacher_recorders'): 'where the teacher is read',
        ('model', 'distiller', 'distill_losses'): f'what it decides there: {counts}',
    }
    if pair.checkpoint is None:
        comments['model', 'teacher_ckpt'] = (
            'An untrained teacher has nothing to say: give its weights, trained on these data.'
        )
    return comments


def teacher_text(pair: Pair, config: str, out: str) -> str:
    """A config that trains the teacher on the same data with the same schedule."""
    base = os.path.relpath(os.path.abspath(config), os.path.dirname(os.path.abspath(out)))
    return (
        f'# The teacher of {Path(config).name}, {pair.teacher.name}: a plain mmpretrain training.\n'
        f"_base_ = '{Path(base).as_posix()}'\n\n"
        'custom_hooks = []\n'
        'model = dict(_delete_=True, **_base_.model.teacher)\n'
    )
