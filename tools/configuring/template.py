"""The text of a pair's config, and of its teacher's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from yapf.yapflib.yapf_api import FormatCode

from mmkdlayer.models.kd_layer_options import standalone_kd_layers
from mmkdlayer.type_names import type_name

from .data_folder import EXTENSIONS
from .dkd import DKD
from .pair import Pair
from .recipes import SMALL, schedule_config, teacher_schedule

STYLE = dict(based_on_style='facebook', column_limit=100)


def config_text(pair: Pair) -> str:
    """The config as Python text, which yapf lays out; it stands on its own, wherever it is."""
    options, data, size = pair.options, pair.data, pair.image_size
    teacher, student = pair.teacher, pair.student
    schedule = schedule_config(
        size,
        options.batch_size,
        options.epochs,
        options.rate,
        type_name(student.model['backbone'].get('type')),
    )
    batch_size = schedule['auto_scale_lr']['base_batch_size']
    own = student.recipe.optimizer if student.recipe.optimizer != 'SGD' else None
    advice = f" The student's own recipe is of {own}, which may suit it better." if own else ''
    if size <= SMALL:
        train = f"""dict(type='Resize', scale=({size}, {size})),
            dict(type='RandomCrop', crop_size={size}, padding={size // 8})"""
        test = f"dict(type='Resize', scale=({size}, {size}))"
    else:
        train = f"dict(type='RandomResizedCrop', scale={size}, backend='pillow')"
        test = f"""dict(type='ResizeEdge', scale={size * 8 / 7:.0f}, edge='short', backend='pillow'),
            dict(type='CenterCrop', crop_size={size})"""
    gray = ", color_type='grayscale'" if pair.channels == 1 else ''
    load = f"dict(type='LoadImageFromFile'{gray})"
    kd_layers = standalone_kd_layers(pair.kd_layers)
    found = '\n# '.join(
        f'{layer}: {places}; {kd_layers[layer]["num_templates"]} templates'
        for layer, places in pair.places.items()
    )
    for reason in pair.reasons:
        found += '\n# ' + fill(reason, 96).replace('\n', '\n#   ')
    left_out = ''
    if student.augments:
        left_out = (
            "\n# The student's own recipe mixes images, which is left out. To have it (not with DKD,\n"
            '# which needs class indices), add to this:\n'
            f'# batch_augments={_python(student.augments)}'
        )
    distiller = dict(type='mmkdlayer.KDLayerDistiller', kd_layers=pair.kd_layers)
    if options.dkd:
        distiller.update(DKD)
    imports = list(dict.fromkeys(['mmkdlayer', *student.imports, *teacher.imports]))
    text = f"""\
# letKD-{len(pair.kd_layers)}{' and DKD' if options.dkd else ''}: {teacher.name} teaches {student.name},
# {len(data.classes)} classes, {data.images} training images of {size}x{size} pixels.
# Written by "python -m mmkdlayer make_config".
#
# {found}

_base_ = 'mmpretrain::_base_/default_runtime.py'
custom_imports = dict(imports={imports}, allow_failed_imports=False)
custom_hooks = [
    dict(type='mmkdlayer.CheckWeightsHook'),  # stops on weights of another network
    dict(type='mmkdlayer.FitDecisionsHook'),  # fits the decisions before training
    dict(type='mmkdlayer.ReleaseRecordsHook'),  # drops what was recorded after each step
    dict(type='mmkdlayer.KDMetricsHook', interval=100),  # logs how the templates are used
    dict(type='mmkdlayer.CheckDataHook'),  # stops on data that do not fit the student
    dict(type='mmkdlayer.CheckFiniteHook'),  # stops on a loss that is NaN
    dict(type='mmkdlayer.PreemptionHook'),  # saves and ends on a signal
]
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=3, save_best='auto'))
randomness = dict(seed=0)

model = dict(
    type='mmrazor.SingleTeacherDistill',
    architecture={_python({'_scope_': 'mmpretrain', **student.model})},
    teacher={_python({'_scope_': 'mmpretrain', **teacher.model})},
    # Weights of the teacher, trained on these classes: an untrained one has nothing to teach.
    teacher_ckpt={pair.checkpoint!r},
    distiller={_python(distiller)})

# The images, normalised as the teacher expects it.{left_out}
data_preprocessor = dict(
    type='mmpretrain.ClsDataPreprocessor',
    num_classes={len(data.classes)}, {_arguments(teacher.normalisation)})
train_dataloader = dict(
    batch_size={batch_size}, num_workers=4, persistent_workers=True,
    dataset=dict(
        type='CustomDataset', data_root={data.root!r}, data_prefix='train',
        extensions={EXTENSIONS},
        pipeline=[{load}, {train},
            dict(type='RandomFlip', prob=0.5, direction='horizontal'), dict(type='PackInputs')]),
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size={batch_size}, num_workers=4, persistent_workers=True,
    dataset=dict(
        type='CustomDataset', data_root={data.root!r}, data_prefix={data.val!r},
        extensions={EXTENSIONS},
        pipeline=[{load}, {test}, dict(type='PackInputs')]),
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = dict(type='Accuracy', topk={(1, 5) if len(data.classes) > 5 else (1,)})
test_dataloader = dict(
    val_dataloader, dataset=dict(val_dataloader['dataset'], data_prefix={data.test!r}))
test_evaluator = val_evaluator

# The published schedule, with the learning rate for {batch_size} images a step; for several processes
# add --auto-scale-lr.{advice}
{assignments(schedule)}
"""
    return FormatCode(text, style_config=STYLE)[0]


def assignments(values: dict[str, Any]) -> str:
    """A line ``key = value`` for each value, as Python text."""
    return '\n'.join(f'{key} = {_python(value)}' for key, value in values.items())


def _python(value: Any) -> str:
    if isinstance(value, dict) and all(str(key).isidentifier() for key in value):
        return f'dict({_arguments(value)})'
    if isinstance(value, dict):
        return f'{{{", ".join(f"{key!r}: {_python(item)}" for key, item in value.items())}}}'
    if isinstance(value, (list, tuple)):
        items = ''.join(f'{_python(item)}, ' for item in value)
        return f'[{items[:-2]}]' if isinstance(value, list) else f'({items})'
    return repr(value)


def _arguments(values: dict[str, Any]) -> str:
    return ', '.join(f'{key}={_python(value)}' for key, value in values.items())


def _derived(pair: Pair, out: str, what: str, hooks: Sequence[str] = ()) -> str:
    """The beginning of a config that has its data and its schedule from the pair's."""
    config = Path(pair.options.out)
    base = Path(os.path.relpath(config.absolute(), os.path.dirname(os.path.abspath(out))))
    kept = ', '.join(f"dict(type='mmkdlayer.{hook}')" for hook in (*hooks, 'PreemptionHook'))
    return (
        f'# The {what}.\n'
        f"_base_ = '{base.as_posix()}'\n\n"
        f'# None of KD layers.\ncustom_hooks = [{kept}]\n'
    )


def baseline_text(pair: Pair) -> str:
    """A config that trains the student alone, without KD layers, by the pair's recipe."""
    what = f'student of {Path(pair.options.out).name}, {pair.student.name}, alone, for comparison'
    text = _derived(pair, pair.options.baseline_out or '', what)
    text += 'model = dict(_delete_=True, **_base_.model.architecture)\n'
    return FormatCode(text, style_config=STYLE)[0]


def dkd_text(pair: Pair) -> str:
    """A config that trains the student by DKD of the logits, without KD layers."""
    what = (
        f'student of {Path(pair.options.out).name}, {pair.student.name}, by DKD, without KD layers'
    )
    hooks = ('CheckWeightsHook', 'ReleaseRecordsHook', 'CheckDataHook', 'CheckFiniteHook')
    text = _derived(pair, pair.options.dkd_out or '', what, hooks)
    distiller = dict(kd_layers=dict(_delete_=True), **({} if pair.options.dkd else DKD))
    text += f'model = dict(distiller={_python(distiller)})\n'
    return FormatCode(text, style_config=STYLE)[0]


def teacher_text(pair: Pair) -> str:
    """A config that trains the teacher on the same data, from weights for other classes or none."""
    start, schedule = pair.teacher_start, teacher_schedule_of(pair)
    how = 'fine-tuned from weights for other classes' if start else 'trained from scratch'
    if schedule:
        schedule['optim_wrapper'] = {'_delete_': True, **schedule['optim_wrapper']}
    what = f'teacher of {Path(pair.options.out).name}, {pair.teacher.name}, {how}'
    text = _derived(pair, pair.options.teacher_out or '', what)
    if start:
        text += (
            'model = dict(_base_.model.teacher, _delete_=True, backbone=dict(\n'
            '    _base_.model.teacher.backbone,\n'
            f"    init_cfg=dict(type='Pretrained', prefix='backbone', checkpoint={start!r})))\n"
        )
    else:
        text += 'model = dict(_delete_=True, **_base_.model.teacher)\n'
    if schedule:
        text += f'# The recipe of {pair.teacher.name}, for these data.\n{assignments(schedule)}\n'
    return FormatCode(text, style_config=STYLE)[0]


def teacher_schedule_of(pair: Pair) -> dict[str, Any]:
    """How the teacher is trained, where that is not as the student is; else nothing."""
    options = pair.options
    return teacher_schedule(
        pair.teacher.recipe,
        pair.image_size,
        options.batch_size,
        options.epochs,
        pair.teacher_start is not None,
    )
