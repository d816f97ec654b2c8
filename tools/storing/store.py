"""Runs the teacher over the views of a training set once, and stores what it decides."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import barrier, get_rank, get_world_size
from mmengine.logging import MMLogger

from mmkdlayer.engine.agreement import compare_over_ranks
from mmkdlayer.engine.feature_stream import FeatureStream
from mmkdlayer.engine.fit_decisions import progress_bar
from mmkdlayer.engine.locks import folder_lock
from mmkdlayer.engine.prepare_decisions import unchanged_randomness
from mmkdlayer.engine.signals import WATCH
from mmkdlayer.engine.supervision import assign_teachers, find_supervised_layers
from mmkdlayer.errors import ConfigError
from mmkdlayer.fitting.distributed import errors_on_all_ranks, from_first_rank
from mmkdlayer.models.evaluating import evaluating
from mmkdlayer.pipelines import in_order
from mmkdlayer.stored.facts import describe_drawing
from mmkdlayer.stored.files import PLAN, Shard, Store
from mmkdlayer.stored.stored_views import unrepeated
from mmkdlayer.stored.writing import Writer, begun_plan

from .deciding import check_decision, decide_batch
from .planning import (
    StoreOptions,
    check_space,
    complete_plan,
    describe_plan,
    describe_store,
    refuse_other_plan,
    sample_teacher,
    save_decisions,
)
from .rendering import ViewBatch, Views, check_drawn_again, render_batches


@unchanged_randomness()
def store_decisions(
    algorithm: Any, cfg: Any, out: str | os.PathLike, options: StoreOptions
) -> Store:
    """Store what the teacher decides about the views of each training image.

    What an interrupted call has left is used; the bytes are those of an uninterrupted one, whatever the
    number of processes. A store that has fewer views gets the others.

    Args:
        algorithm: A distillation algorithm of mmrazor on its device, with fitted decisions (see
            :func:`~mmkdlayer.engine.prepare_decisions`).
        cfg: The training config: ``train_dataloader``, ``model``.
        out: Folder of the store, on a disk that all processes share.
        options: What is stored.

    Raises:
        ConfigError: There is nothing to store, or something that can't be.
        DataError: Images can't be read, or their views differ in size.
        ResourceError: The disk does not suffice. What was stored stays.
        StoreError: The folder has decisions of something else.
    """
    folder = Path(out)
    stream, views = open_views(algorithm, cfg, options)
    with folder_lock(folder, 'storing'):
        plan = make_plan(stream, views, cfg, folder, options)
        writer = Writer(folder, plan)
        pending = from_first_rank(lambda: _start(writer, folder))
        run_teacher(stream, views, writer, pending, options)
        barrier()
        from_first_rank(lambda: _finish(writer, folder))
    return Store.open(folder)


def open_views(algorithm: Any, cfg: Any, options: StoreOptions) -> tuple[FeatureStream, Views]:
    """The teacher's features of the training set, and the views of its images."""
    train = cfg.train_dataloader
    layers = find_supervised_layers(getattr(algorithm, 'distiller', None))
    if not layers:
        raise ConfigError(
            'The config has no KD layer with a decision, so there is nothing to store. Declare one in '
            'model.distiller.kd_layers.'
        )
    assign_teachers(layers, algorithm, cfg.get('model') or {})
    with errors_on_all_ranks():
        for layer in layers:
            check_decision(layer)
            layer.decision.require_fitted()
            if layer.name == 'logits' and options.logits is not None:
                raise ConfigError(
                    '--logits: rename kd_layers.logits, whose fields have the same names.'
                )
        tested = cfg.get('val_dataloader') or cfg.get('test_dataloader') or {}
        batch_size = max(train.get('batch_size', 1), tested.get('batch_size', 1))
        stream = FeatureStream(algorithm, layers, in_order(train, batch_size=batch_size))
        stream.check_shapes()
        views = Views(unrepeated(stream.dataset)[0], options.seed)
        check_drawn_again(views)
    return stream, views


def make_plan(
    stream: FeatureStream, views: Views, cfg: Any, folder: Path, options: StoreOptions
) -> dict[str, Any]:
    """The plan of the store, the same on all ranks: a new one, or that which was begun.

    Raises:
        ConfigError: Ranks have other teachers or data.
        StoreError: Another one was begun.
    """
    with errors_on_all_ranks():
        drawing = describe_drawing(views.dataset, cfg.train_dataloader['dataset'])
        facts = describe_store(stream, views, options, drawing)
    compare_over_ranks(facts)

    def plan() -> dict[str, Any]:
        begun = begun_plan(folder)
        if begun is not None:
            refuse_other_plan(begun, facts, folder)
            layers = begun['kd_layers']
            files = save_decisions(stream, folder, layers)  # one may have been lost
            layers = {name: dict(layer, **files[name]) for name, layer in layers.items()}
            return dict(begun, kd_layers=layers, views=max(begun['views'], options.views))
        kept, logits, rate = sample_teacher(stream, views, options)
        files = save_decisions(stream, folder, {})
        made = complete_plan(facts, kept, logits, options.views, files)
        logger = MMLogger.get_current_instance()
        logger.info(describe_plan(made, folder))
        total = made['images'] * made['views'] / rate / get_world_size()
        logger.info(
            f'It takes about {_in_words(total)}, at {rate:.1f} images a second and process.'
        )
        return made

    return from_first_rank(plan)


def _start(writer: Writer, folder: Path) -> list[Shard]:
    """The shards that are to be written."""
    writer.clean()
    with progress_bar(desc='looking at what is stored', total=len(writer.shards)) as bar:
        pending = writer.pending(bar.update)
    if pending or begun_plan(folder) != writer.plan:
        writer.start()
    done = len(writer.shards) - len(pending)
    if done:
        MMLogger.get_current_instance().info(
            f'{done} of {len(writer.shards)} files of {folder} are stored already.'
        )
    check_space(writer.plan, pending, folder)
    return pending


def _finish(writer: Writer, folder: Path) -> None:
    if (folder / PLAN).exists():
        writer.finish()


def run_teacher(
    stream: FeatureStream,
    views: Views,
    writer: Writer,
    pending: Sequence[Shard],
    options: StoreOptions,
) -> None:
    """Write shards, each rank its share; a rank that fails ends all after the shard that they are at."""
    rank, ranks, size = get_rank(), get_world_size(), stream.loader.batch_size or 1
    own, most = pending[rank::ranks], pending[::ranks]
    batches = render_batches(stream, views, _places(writer, own, size))
    total = sum(shard.images for shard in pending)
    with progress_bar(desc='storing, images', total=total) as bar, evaluating(*stream.models):
        for first, shard in zip_longest(most, own):
            with errors_on_all_ranks():
                if shard is not None:
                    _fill(stream, writer, shard, batches, bar, options)
            # What the others have done meanwhile.
            place = pending.index(first)
            bar.update(sum(other.images for other in pending[place + 1 : place + ranks]))


def _places(writer: Writer, shards: Sequence[Shard], size: int) -> Iterator[list[tuple[int, int]]]:
    """The batches of shards, as (view, index) of their images, after those that were saved.

    Batches are the same in every run, so that a teacher's results are: they may depend on the batch.
    """
    for shard in shards:
        end = shard.first + shard.images
        for start in range(shard.first + len(writer.begun(shard)), end, size):
            yield [(shard.view, index) for index in range(start, min(start + size, end))]


def _fill(
    stream: FeatureStream,
    writer: Writer,
    shard: Shard,
    batches: Iterator[ViewBatch],
    bar: Any,
    options: StoreOptions,
) -> None:
    """Write one shard, after the records that were saved; where a signal comes, save and end."""
    records, begun = np.zeros(shard.images, writer.record), writer.begun(shard)
    done = len(begun)
    records[:done] = begun
    top_k = {name: layer['top_k'] for name, layer in writer.plan['kd_layers'].items()}
    logits = (writer.plan['logits'] or {}).get('top_k')
    saved_at = time.monotonic()
    bar.update(done)
    try:
        while done < shard.images:
            WATCH.deferring = True
            found = next(batches)
            place = slice(done, done + len(found.hashes))
            records['hash'][place] = found.hashes
            for name, values in decide_batch(stream, found.batch, top_k, logits).items():
                records[name][place] = values
            done = place.stop
            bar.update(len(found.hashes))
            is_due = time.monotonic() - saved_at >= options.interval
            if done == shard.images or is_due or WATCH.received is not None:
                writer.save(shard, records[:done])
                saved_at = time.monotonic()
            if WATCH.received is not None:
                WATCH.end(
                    'while it stored decisions: what was done is saved, start again to continue'
                )
    finally:
        WATCH.deferring = False


def _in_words(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f'{seconds:.0f} s'
    return f'{minutes // 60} h {minutes % 60} min' if minutes >= 60 else f'{minutes} min'
