"""The exported student's page: what it was distilled from, on which data, and how exact it is."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmkdlayer.checkpoints import hash_file
from mmkdlayer.models.decisions.files import DecisionFile, read_decision_file
from mmkdlayer.pipelines import find_pipeline
from mmkdlayer.type_names import type_name
from mmkdlayer.version import installed_versions

from .training_student import decision_configs

NOT_STATED = 'not stated'
PAGE = """---
license: {licence}
library_name: mmpretrain
pipeline_tag: image-classification
tags: [knowledge-distillation, letkd, mmkdlayer]
---
# {name}

An image classifier with KD layers (letKD, BMVC 2023), exported without its teacher.
It needs mmpretrain and mmkdlayer: `mmkdlayer.load_student(FOLDER)`.
`student.py` is Python code; read it before you run it.

{overview}
## KD layers

{layers}
## Decision files of the training

{decisions}
## Metrics

{metrics}
## What was checked

{checks}

## Files

{files}
## Versions

{versions}
"""


def model_card(
    cfg: Config,
    student_cfg: Config,
    checkpoint: str | os.PathLike,
    meta: Mapping[str, Any],
    files: Sequence[Path],
    checks: Sequence[str],
    metrics: Mapping[str, Any],
    licence: str,
) -> str:
    """The page's text: a YAML header as model hubs read it, then tables.

    Args:
        cfg: The training config.
        student_cfg: The exported one.
        checkpoint: What was exported.
        meta: Its meta data.
        files: The files of the export, as they are written.
        checks: Sentences about what was compared, and what was left out.
        metrics: Measured figures, as they were given.
        licence: Identifier of the licence of the weights.

    Raises:
        DecisionFileError: A decision file of the training is damaged.
    """
    decisions = _read_decisions(cfg, checkpoint)
    return PAGE.format(
        licence=json.dumps(licence),
        name=Path(str(cfg.filename)).stem if cfg.filename else 'student',
        overview=_table(
            ('', ''),
            [
                ('student', describe_network(student_cfg.model)),
                ('checkpoint', _describe_checkpoint(checkpoint, meta)),
                *_describe_teacher(cfg.model, [content for _, content in decisions]),
                *((k, str(meta[k])) for k in ('epoch', 'iter', 'seed') if meta.get(k) is not None),
                *_describe_data(cfg, (meta.get('dataset_meta') or {}).get('classes')),
            ],
        ),
        layers=_table(
            ('layer', 'after', 'channels', 'templates', 'alpha'), _kd_layer_rows(student_cfg.model)
        ),
        decisions=_table(
            ('file', 'decision', 'fitted on (teacher layer, data, date)', 'SHA-256'),
            [_describe_decision(path, content) for path, content in decisions],
        ),
        metrics=_table(('metric', 'value'), metrics.items(), 'None were given to the export.'),
        checks='\n'.join(f'- {sentence}' for sentence in checks),
        files=_table(
            ('file', 'bytes', 'SHA-256'),
            [(path.name, path.stat().st_size, f'`{hash_file(path)}`') for path in files],
        ),
        versions=', '.join(f'{key} {value}' for key, value in installed_versions().items()),
    )


def _table(header: Sequence[str], rows: Collection[Sequence[Any]], otherwise: str = 'None.') -> str:
    """Lines of a markdown table, or what to say where there are no rows."""
    lines = [f'| {" | ".join(header)} |', '|' + '---|' * len(header)]
    lines += [f'| {" | ".join(str(cell) for cell in row)} |' for row in rows]
    return '\n'.join(lines if rows else [otherwise]) + '\n'


def describe_network(model: Any) -> str:
    """A network's backbone with its plain options, such as ``ResNet (depth=18)``."""
    if not isinstance(model, Mapping):
        return NOT_STATED
    if 'cfg_path' in model:
        return str(model['cfg_path'])
    backbone = model.get('backbone') or {}
    options = [
        f'{key}={value}'
        for key, value in backbone.items()
        if key in ('depth', 'arch', 'width_mult', 'widen_factor', 'base_channels', 'groups')
    ]
    kind = type_name(backbone.get('type')) or NOT_STATED
    return kind + (f' ({", ".join(options)})' if options else '')


def _describe_checkpoint(checkpoint: str | os.PathLike, meta: Mapping[str, Any]) -> str:
    """Its name, which of its weights were taken, and its hash."""
    text = _without_folders(checkpoint)
    if meta.get('averaged') is not None:
        text += ' (averaged weights)' if meta['averaged'] else ' (weights of the last step)'
    return text + (f', SHA-256 `{hash_file(checkpoint)}`' if Path(checkpoint).is_file() else '')


def _without_folders(path: Any) -> str:
    """A URL as it is; of a local file the name alone, since its folders mean nothing to others."""
    return str(path) if '://' in str(path) else Path(str(path)).name


def _describe_teacher(
    model_cfg: Mapping[str, Any], decisions: Iterable[DecisionFile]
) -> Iterator[tuple[str, str]]:
    """The row on the teacher, where there is one."""
    if model_cfg.get('teacher') is None:
        return
    # The command line of the training may have named its weights: then the decisions know.
    known = [(content.provenance.get('teacher') or {}).get('checkpoint') for content in decisions]
    origins = [o for o in (model_cfg.get('teacher_ckpt'), *known) if o not in (None, 'None')]
    origin = _without_folders(origins[0]) if origins else f'weights {NOT_STATED}'
    yield 'distilled from', f'{describe_network(model_cfg["teacher"])}, {origin}'


def _describe_data(cfg: Config, classes: Sequence[str] | None) -> list[tuple[str, str]]:
    """Data sets, their transforms and the classes."""
    rows = []
    for title, key in (('trained on', 'train_dataloader'), ('tested on', 'test_dataloader')):
        dataset = (cfg.get(key) or {}).get('dataset') or {}
        while isinstance(dataset.get('dataset'), Mapping):  # a wrapper such as RepeatDataset
            dataset = dataset['dataset']
        parts = [type_name(dataset.get('type')) or NOT_STATED]
        parts += [_without_folders(dataset['data_root'])] if dataset.get('data_root') else []
        parts += [f'split {dataset["split"]}'] if dataset.get('split') else []
        steps = [type_name(step.get('type')) for step in find_pipeline(dataset) or []]
        rows.append((title, ', '.join(parts) + (f': {" > ".join(steps)}' if steps else '')))
    if classes:
        names = ', '.join(map(str, classes[:5])) + (', ...' if len(classes) > 5 else '')
        rows.append(('classes', f'{len(classes)}: {names}'))
    return rows


def _kd_layer_rows(model_cfg: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Name, place, channels, templates and alpha of each KD layer of a student."""
    return [
        (
            name,
            f'`{layer["module"]}`',
            layer['in_channels'],
            layer['num_templates'],
            'folded in' if 'FoldedKDLayer' in str(layer.get('layer')) else layer.get('alpha', 1.0),
        )
        for name, layer in (model_cfg.get('kd_layers') or {}).items()
    ]


def _read_decisions(cfg: Config, checkpoint: str | os.PathLike) -> list[tuple[Path, DecisionFile]]:
    """The decision files that the config names, and those that the training stored, where they are."""
    decisions = decision_configs(cfg.model)
    stored = Path(checkpoint).parent / 'decisions'
    files = {path.stem: path for path in sorted(stored.glob('*.safetensors'))} if decisions else {}
    files.update({name: Path(d['file']) for name, d in decisions.items() if d.get('file')})
    return [(p, read_decision_file(p, tables=False)) for p in files.values() if p.is_file()]


def _describe_decision(path: Path, content: DecisionFile) -> list[str]:
    """A row of the card: kind and sizes, what it was fitted on, its hash."""
    options = ', '.join(f'{key}={value}' for key, value in sorted(content.settings.items()))
    fitted = content.provenance
    layer = (fitted.get('layer') or {}).get('source', NOT_STATED)
    images = (fitted.get('data') or {}).get('images', NOT_STATED)
    date = str(fitted.get('date', NOT_STATED))[:10]
    return [
        path.name,
        f'{content.kind} ({options})',
        f'`{layer}`, {images} images, {date}',
        f'`{hash_file(path)[:16]}`',
    ]
