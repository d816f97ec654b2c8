"""What a store is to be: what it is of, what it keeps, how large it is and how long it takes."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmkdlayer.checkpoints import hash_file
from mmkdlayer.engine.feature_stream import FeatureStream
from mmkdlayer.engine.fingerprints import hash_json, hash_model, without_paths
from mmkdlayer.engine.provenance import describe_layer, hash_decision
from mmkdlayer.errors import ResourceError, StoreError
from mmkdlayer.fitting.shortages import in_units, shortages_of
from mmkdlayer.models.decisions import CentroidDecision
from mmkdlayer.models.evaluating import evaluating
from mmkdlayer.models.teachers import describe_view
from mmkdlayer.stored.facts import drawing_differences, version_differences
from mmkdlayer.stored.files import (
    DECISIONS,
    Shard,
    choose_shard_images,
    make_fields,
    record_type,
    shards_of,
)

from .deciding import check_logits, logit_modules, probabilities
from .rendering import Views, render_batches
from .truncation import choose_k, sum_falling

#: On so many images, at least, k is chosen and the time is measured.
SAMPLE = 256


@dataclass(frozen=True)
class StoreOptions:
    """What is stored."""

    views: int  #: V, views of each image
    seed: int = 0  #: base seed of the views
    #: How many of the teacher's logits are kept of each image and view; None for none.
    logits: int | None = None
    interval: float = 300.0  #: seconds after which a shard that is not full is saved, for a restart


def describe_store(
    stream: FeatureStream, views: Views, options: StoreOptions, drawing: Mapping[str, Any]
) -> dict[str, Any]:
    """What a store is of: the part of its plan that must be the same to continue it.

    The stream is of the training set, with the layers' sizes; ``drawing`` is as
    :func:`~mmkdlayer.stored.facts.describe_drawing` gives it.
    """
    teachers = {
        name or 'teacher': dict(
            weights=hash_model(teacher.model),
            config=hash_json(without_paths(teacher.config)),
            view=describe_view(teacher.model),
            checkpoint=os.path.basename(str(teacher.checkpoint)),
        )
        for name, teacher in stream.teachers.items()
    }
    layers = {
        layer.name: dict(
            kind=type(layer.decision).__name__,
            settings=layer.decision.options(),
            templates=layer.decision.num_templates,
            grid=list(layer.size),
            tables=hash_decision(layer.decision),
            source=describe_layer(stream, layer),
        )
        for layer in stream.layers
    }
    return dict(
        drawing,
        seed=options.seed,
        images=len(views),
        view_shape=list(views.shape or ()),
        batch_size=stream.loader.batch_size,
        teacher=teachers,
        kd_layers=layers,
        logits=options.logits,
    )


def plan_differences(begun: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One phrase for each thing that differs between a plan and what :func:`describe_store` gives."""
    phrases = drawing_differences(begun, now) + version_differences(begun, now)
    layers = {
        name: {key: layer[key] for key in next(iter(now['kd_layers'].values())) if key in layer}
        for name, layer in begun['kd_layers'].items()
    }
    logits = begun['logits']
    theirs = dict(begun, kd_layers=layers, logits=logits and logits['top_k'])
    if logits and now['logits']:
        now = dict(now, logits=min(now['logits'], logits['classes']))
    for key in ('seed', 'view_shape', 'batch_size', 'teacher', 'logits'):
        if theirs[key] != now[key]:
            phrases.append(f'{key} was {theirs[key]} and is {now[key]}')
    for name in {**layers, **now['kd_layers']}:
        was, is_now = (given['kd_layers'].get(name) or {} for given in (theirs, now))
        differing = [key for key in {**was, **is_now} if was.get(key) != is_now.get(key)]
        if differing:
            phrases.append(
                f'of kd_layers.{name}, {differing[0]} was {was.get(differing[0])} and is '
                f'{is_now.get(differing[0])}'
            )
    return phrases


def sample_teacher(
    stream: FeatureStream, views: Views, options: StoreOptions
) -> tuple[dict[str, tuple[int, float] | None], dict[str, Any], float]:
    """Run the teacher on some images of view 0: what is to be kept, and how fast it is.

    Returns:
        By layer k and what is not kept on average, or None for rows of a table; of the logits, if they
        are stored, ``classes`` and ``sources`` (see :func:`logit_modules`); and images a second, without
        the first batch.

    Raises:
        ConfigError: The teacher gives no logits, which are to be stored.
        DataError: Images can't be read.
    """
    size = stream.loader.batch_size or 1
    count = min(len(views), max(SAMPLE, 3 * size))
    chosen = [(0, index * len(views) // count) for index in range(count)]
    batches = [chosen[start : start + size] for start in range(0, count, size)]
    centroids = [layer for layer in stream.layers if isinstance(layer.decision, CentroidDecision)]
    samples: dict[str, tuple] = {layer.name: (0, 0) for layer in centroids}
    began, first, done = time.monotonic(), 0.0, 0
    logits: dict[str, Any] = {}
    with evaluating(*stream.models):
        for number, found in enumerate(render_batches(stream, views, batches)):
            features, _, outputs = stream.run_teachers(found.batch)
            for layer in centroids:
                decided = probabilities(layer, features[layer.name])
                total, positions = samples[layer.name]
                samples[layer.name] = total + sum_falling(decided), positions + len(decided)
            if options.logits is not None and not logits:
                logits = dict(classes=check_logits(outputs).size(1))
                logits['sources'] = logit_modules(stream, found.batch)
            if number:
                done += len(found.hashes)
            else:
                first = time.monotonic()
    now = time.monotonic()
    rate = done / (now - first) if done else count / (now - began)
    kept: dict[str, tuple[int, float] | None] = {layer.name: None for layer in stream.layers}
    kept.update({name: choose_k(*sample) for name, sample in samples.items()})
    return kept, logits, rate


def complete_plan(
    facts: Mapping[str, Any],
    kept: Mapping[str, tuple[int, float] | None],
    logits: Mapping[str, Any],
    views: int,
    files: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The plan of a store, from what it is of, what is kept, and the files of its decisions."""
    layers = {}
    for name, layer in facts['kd_layers'].items():
        found = kept[name]
        top_k, rest = (None, None) if found is None else found
        layers[name] = dict(layer, top_k=top_k, rest=rest, **files[name])
    top = facts['logits']
    kept_logits = None if top is None else dict(logits, top_k=min(top, logits['classes']))
    fields = make_fields(layers, kept_logits)
    size = record_type(fields).itemsize
    shard_images = choose_shard_images(facts['images'], size, facts['batch_size'])
    return dict(
        facts,
        kd_layers=layers,
        logits=kept_logits,
        views=views,
        fields=fields,
        shard_images=shard_images,
    )


def save_decisions(
    stream: FeatureStream, folder: Path, known: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Put the decision of each layer into a store, unless the file that is ``known`` is there.

    By layer ``file``, ``bytes`` and ``sha256``.

    Raises:
        ResourceError: The disk is full.
    """
    found = {}
    for layer in stream.layers:
        path = folder / DECISIONS / f'{layer.name}.safetensors'
        digest = known.get(layer.name, {}).get('sha256')
        if not path.is_file() or hash_file(path) != digest:
            with shortages_of(path):
                layer.decision.save(path)
        found[layer.name] = dict(
            file=f'{DECISIONS}/{path.name}', bytes=path.stat().st_size, sha256=hash_file(path)
        )
    return found


def store_bytes(plan: Mapping[str, Any]) -> int:
    """Bytes of all shards of a store, but for 128 or a few more in each file."""
    return plan['views'] * plan['images'] * record_type(plan['fields']).itemsize


def describe_plan(plan: Mapping[str, Any], folder: Path) -> str:
    """What is going to be stored, in words."""
    record = record_type(plan['fields'])
    parts = []
    for name, layer in plan['kd_layers'].items():
        fields = [field for field in plan['fields'] if field[0].startswith(f'{name}.')]
        what = ''
        if layer['top_k'] is not None:
            what = f', {layer["top_k"]} of {layer["templates"]} centroids, {layer["rest"]:.2%} left out'
        parts.append(f'{name} {in_units(record_type(fields).itemsize)}{what}')
    files = len(list(shards_of(plan['images'], plan['views'], plan['shard_images'])))
    free = in_units(shutil.disk_usage(folder).free)
    return (
        f'Stores {plan["views"]} views of {plan["images"]} images: {in_units(store_bytes(plan))} in '
        f'{files} files in {folder}, where {free} are free. Of an image in a view: '
        f'{record.itemsize} bytes ({"; ".join(parts)}).'
    )


def check_space(plan: Mapping[str, Any], pending: Sequence[Shard], folder: Path) -> None:
    """Raise a ResourceError where what is still to be stored does not fit on the disk."""
    needed = sum(shard.images for shard in pending) * record_type(plan['fields']).itemsize
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ResourceError(
            f'{in_units(needed)} are still to be stored in {folder}, where {in_units(free)} are free. '
            'Make room, choose a folder on a larger disk with --out, or store fewer --views.'
        )


def refuse_other_plan(begun: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Raise a StoreError that names what differs where a folder has the decisions of something else."""
    phrases = plan_differences(begun, now)
    if phrases:
        raise StoreError(
            f'{folder} has decisions that were stored of something else: {"; ".join(phrases[:3])}. '
            'Choose another --out, or remove the folder to store anew.'
        )
