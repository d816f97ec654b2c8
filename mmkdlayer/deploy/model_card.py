"""The exported student's page: what it was distilled from, on which data, and how exact it is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.config import Config

from mmkdlayer.checkpoints import hash_file
from mmkdlayer.models.decisions.files import DecisionFile, read_decision_file
from mmkdlayer.pipelines import find_dataset, test_loader
from mmkdlayer.type_names import type_name
from mmkdlayer.version import installed_versions

from .markdown import plain, table_rows

if TYPE_CHECKING:
    from .export import ExportOptions

NOT_STATED = 'not stated'
LETKD = 'KD layers (letKD)'
PAGE = """---
license: {licence}
library_name: mmpretrain
pipeline_tag: image-classification
tags: [{tags}]
---
# {name}

{what}
It needs mmpretrain and mmkdlayer: `mmkdlayer.load_student(FOLDER)`.
`student.py` is Python code; read it before you run it.

| | |
|---|---|
{facts}

## KD layers

| layer | after | channels | templates | alpha |
|---|---|---|---|---|
{layers}

## Decision files of the training

| file | decision | fitted on (teacher layer, data, date) | SHA-256 |
|---|---|---|---|
{decisions}

## Metrics

| metric | value |
|---|---|
{metrics}

## What was checked

{checks}

## Files

| file | bytes | SHA-256 |
|---|---|---|
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
    options: ExportOptions,
) -> str:
    """The page's text: a YAML header as model hubs read it, then tables.

    ``cfg``, ``checkpoint`` and ``meta`` are of the training; ``files`` are written already; ``checks``
    are sentences about what was compared and what was left out.

    Raises:
        DecisionFileError: A decision file of the training is damaged.
    """
    decisions = _read_decisions(cfg, checkpoint)
    layers = student_cfg.model.get('kd_layers') or {}
    ways = _ways_of_distilling(cfg.model)
    what = 'An image classifier' + (' with KD layers (letKD, BMVC 2023)' if layers else '')
    tags = ['knowledge-distillation'] if ways else []
    tags += ['letkd'] if LETKD in ways or layers else []
    facts = {
        'student': describe_network(student_cfg.model),
        'checkpoint': _describe_checkpoint(checkpoint, meta),
        'distilled from': _describe_teacher(cfg.model, decisions.values()),
        'distilled by': ', '.join(ways) or None,
        **{key: meta.get(key) for key in ('epoch', 'iter', 'seed')},
        'trained on': _describe_data(cfg.get('train_dataloader')),
        'tested on': _describe_data(test_loader(cfg)),
        'classes': _describe_classes((meta.get('dataset_meta') or {}).get('classes') or ()),
    }
    return PAGE.format(
        licence=json.dumps(options.licence).replace('<', r'\u003c'),
        name=plain(Path(str(cfg.filename)).stem if cfg.filename else 'student'),
        what=f'{what}, exported without its teacher.' if ways else f'{what}.',
        tags=', '.join([*tags, 'mmkdlayer']),
        facts=table_rows((k, NOT_STATED if v is None else v) for k, v in facts.items()),
        layers=table_rows(_kd_layer_row(name, layer) for name, layer in layers.items()),
        decisions=table_rows(_decision_row(path, content) for path, content in decisions.items()),
        metrics=table_rows(options.metrics.items(), 'None were given to the export.'),
        checks='\n'.join(f'- {plain(sentence)}.' for sentence in checks),
        files=table_rows((path.name, path.stat().st_size, hash_file(path)) for path in files),
        versions=', '.join(f'{key} {value}' for key, value in installed_versions().items()),
    )


def _ways_of_distilling(model_cfg: Mapping[str, Any]) -> list[str]:
    """KD layers, where a teacher supervised one, and the types of other losses with a teacher."""
    distiller = model_cfg.get('distiller') or {}
    layers = (distiller.get('kd_layers') or {}).values()
    losses = (distiller.get('distill_losses') or {}).values()
    others = [type_name(_mapping(loss).get('type')) or NOT_STATED for loss in losses]
    return [LETKD] * any(_mapping(layer).get('decision') for layer in layers) + others


def _read_decisions(cfg: Config, checkpoint: str | os.PathLike) -> dict[Path, DecisionFile]:
    """The decision files that the config names, and those that the training stored, where they are."""
    distiller = cfg.model.get('distiller') or {}
    owners = {**(distiller.get('kd_layers') or {}), **(distiller.get('distill_losses') or {})}
    decisions = {name: _mapping(owner.get('decision')) for name, owner in owners.items()}
    stored = Path(checkpoint).parent / 'decisions'
    files = {path.stem: path for path in sorted(stored.glob('*.safetensors'))} if decisions else {}
    files.update({name: Path(d['file']) for name, d in decisions.items() if d.get('file')})
    return {p: read_decision_file(p) for p in files.values() if p.is_file()}


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
    return text + (f', SHA-256 {hash_file(checkpoint)}' if Path(checkpoint).is_file() else '')


def _describe_classes(classes: Sequence[Any]) -> str:
    """How many, and the first names."""
    names = ', '.join(map(str, classes[:5])) + (', ...' if len(classes) > 5 else '')
    return f'{len(classes)}: {names}' if classes else NOT_STATED


def _without_folders(path: Any) -> str:
    """A URL as it is; of a local file the name alone, since its folders mean nothing to others."""
    return str(path) if '://' in str(path) else Path(str(path)).name


def _describe_teacher(model_cfg: Mapping[str, Any], decisions: Iterable[DecisionFile]) -> str:
    """The teacher's network and weights."""
    if model_cfg.get('teacher') is None:
        return NOT_STATED
    # The command line of the training may have named its weights: then the decisions know.
    known = [_mapping(d.provenance.get('teacher')).get('checkpoint') for d in decisions]
    origins = [o for o in (model_cfg.get('teacher_ckpt'), *known) if o not in (None, 'None')]
    origin = _without_folders(origins[0]) if origins else f'weights {NOT_STATED}'
    return f'{describe_network(model_cfg["teacher"])}, {origin}'


def _describe_data(loader: Mapping[str, Any] | None) -> str:
    """The data set of a data loader, inside any wrapper, with its transforms."""
    dataset = find_dataset(loader) or (loader or {}).get('dataset') or {}
    parts = [type_name(dataset.get('type')) or NOT_STATED]
    parts += [_without_folders(dataset['data_root'])] if dataset.get('data_root') else []
    parts += [f'split {dataset["split"]}'] if dataset.get('split') else []
    steps = [type_name(step.get('type')) for step in dataset.get('pipeline') or ()]
    return ', '.join(parts) + (f': {" > ".join(steps)}' if steps else '')


def _kd_layer_row(name: str, layer: Mapping[str, Any]) -> Sequence[Any]:
    """Name, place, channels, templates and alpha."""
    folded = type_name((layer.get('layer') or {}).get('type')) == 'FoldedKDLayer'
    alpha = 'folded in' if folded else layer.get('alpha', 1.0)
    return name, layer['module'], layer['in_channels'], layer['num_templates'], alpha


def _decision_row(path: Path, content: DecisionFile) -> Sequence[Any]:
    """Name, kind and sizes, what it was fitted on, hash."""
    options = ', '.join(f'{key}={value}' for key, value in sorted(content.settings.items()))
    fitted = content.provenance
    layer = _mapping(fitted.get('layer')).get('source', NOT_STATED)
    images = _mapping(fitted.get('data')).get('images', NOT_STATED)
    place = f'{layer}, {images} images, {str(fitted.get("date", NOT_STATED))[:10]}'
    return path.name, f'{content.kind} ({options})', place, hash_file(path)[:16]


def _mapping(value: Any) -> Mapping[str, Any]:
    """What a file says under a key, if that is a mapping; else none."""
    return value if isinstance(value, Mapping) else {}
