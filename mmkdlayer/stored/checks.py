"""Whether stored decisions are those of a training: its images, their views, its KD layers."""

from __future__ import annotations

import os
from typing import Any

from mmengine.dist import get_rank
from mmengine.logging import MMLogger
from tqdm import tqdm

from mmkdlayer.engine.feature_stream import student_scores
from mmkdlayer.engine.provenance import hash_decision
from mmkdlayer.errors import ConfigError, StoreError
from mmkdlayer.fitting.distributed import errors_on_all_ranks
from mmkdlayer.models.losses import StoredDecisionLoss

from .facts import describe_drawing, drawing_differences, version_differences
from .files import Store
from .stored_views import StoredViews
from .views import hash_view

#: Views that are rendered and compared before a training, of as many images.
COMPARED = 32


def check_stored(model: Any, dataloader: Any, dataset_cfg: Any) -> None:
    """Compare a store with the training that reads it, and give the decisions their tables.

    All ranks must call it. The data set of the loader is a :class:`StoredViews`, ``dataset_cfg``
    the config of what that renders.

    Raises:
        ConfigError: It is of other KD layers, or batches are mixed.
        DecisionFileError: It is of decisions with other settings.
        StoreError: Files are missing or damaged, or it is of other images or views.
    """
    dataset: StoredViews = dataloader.dataset
    store = dataset.store
    with errors_on_all_ranks():
        if getattr(model.data_preprocessor, 'batch_augments', None) is not None:
            raise ConfigError(
                'data_preprocessor.batch_augments mixes the images of a batch, and the teacher whose '
                'decisions are stored has not seen mixed images. Take it out, or train with the teacher.'
            )
        if int(os.environ.get('LOCAL_RANK', get_rank())) == 0:  # once for each machine
            files = [*store.manifest['shards'], *store.manifest['kd_layers'].values()]
            total = sum(file['bytes'] for file in files)
            with tqdm(
                desc='Checking what is stored', total=total, unit='B', unit_scale=True
            ) as bar:
                store.check(progress=bar.update)
            compare_drawing(dataset, dataset_cfg)
        layers = take_tables(model, store)
        check_grids(model, dataloader, layers)
    MMLogger.get_current_instance().info(
        f'Decisions of {store.folder}: {store.views} views of {store.images} images, compared.'
    )


def compare_drawing(dataset: StoredViews, dataset_cfg: Any) -> None:
    """Raise a StoreError where images, pipeline or some rendered views are not those stored."""
    store, others = dataset.store, []
    now = describe_drawing(dataset.images, dataset_cfg)
    advice = 'Go back to what it was, or store the decisions anew.'
    if found := drawing_differences(store.manifest, now):
        raise StoreError(
            f'The decisions in {store.folder} are of other images, or of images drawn in another way: '
            f'{"; ".join(found)}. {advice}'
        )
    count = min(COMPARED, store.images)
    for number in range(count):
        image, view = number * store.images // count, number % store.views
        if hash_view(dataset.render(image, view)['inputs']) != int(store.read(view, image)['hash']):
            others.append(f'view {view} of {dataset.name(image)}')
    if others:
        versions = '; '.join(version_differences(store.manifest, now)) or (
            'the versions of the packages are the same. A transform that draws with a generator of its '
            "own, not python's random, numpy.random or torch's, can not be drawn again"
        )
        raise StoreError(
            f'{len(others)} of {count} views that were rendered again, such as {others[0]}, are not '
            f'those that the decisions in {store.folder} are of: {versions}. {advice}'
        )


def take_tables(model: Any, store: Store) -> dict[str, dict]:
    """Give each decision of a distillation algorithm the tables that were stored.

    By layer that is supervised, what the manifest says of it.

    Raises:
        ConfigError: A layer is not in the store, or has a table of its own.
        DecisionFileError: Settings differ.
    """
    found, known = {}, store.manifest['kd_layers']
    for loss_name, loss in model.distiller.distill_losses.items():
        if not isinstance(loss, StoredDecisionLoss):
            continue
        name, decision = loss_name.removeprefix('loss_'), loss.decision
        if name not in known:
            raise ConfigError(
                f'kd_layers.{name}: {store.folder} has decisions for {", ".join(known)} alone. Name the '
                'layer as there, or store decisions with this config.'
            )
        if decision.is_fitted and hash_decision(decision) != known[name]['tables']:
            raise ConfigError(
                f'kd_layers.{name}.decision.file is {decision.file}, whose tables are not those that '
                f'the decisions in {store.folder} are of. Take it out: the tables are in the store.'
            )
        decision.load(store.decision_file(name))
        for option, value in decision.options().items():
            stored = known[name]['settings'].get(option, value)
            if stored != value:
                raise ConfigError(
                    f'kd_layers.{name}.decision.{option} is {value}, but the decisions in '
                    f'{store.folder} were made with {stored}. Set it to that, or store decisions with '
                    'this config.'
                )
        found[name] = known[name]
    return found


def check_grids(model: Any, dataloader: Any, layers: dict[str, dict]) -> None:
    """Raise a ConfigError where the student's maps have other positions than were decided about."""
    mappings = model.distiller.loss_forward_mappings
    records = {name: mappings[f'loss_{name}']['scores'] for name in layers}
    batch = dataloader.collate_fn([dataloader.dataset[0]])
    for name, scores in student_scores(model, batch, records).items():
        found, stored = list(scores.shape[2:]), list(layers[name]['grid'])
        if found != stored:
            raise ConfigError(
                f'kd_layers.{name}: the map of the student is {found[0]}x{found[1]}, but the '
                f'decisions are stored for {stored[0]}x{stored[1]} positions. Store decisions with '
                'this config: those of one teacher are shared by students with maps of one size.'
            )
