"""Batches of views, rendered by data workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader

from mmkdlayer.engine.feature_stream import FeatureStream
from mmkdlayer.engine.streamed_images import CollateReadable, StreamedImages, refuse_unreadable
from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.stored.views import hash_view, render_view


class ViewBatch(NamedTuple):
    """Views as the training's data loader collates them, and the hash of each, (N,), uint64."""

    batch: Any
    hashes: np.ndarray


class Views(StreamedImages):
    """Views of a data set's images by (view, index), each with its hash; Unreadable where one fails.

    ``shape`` (C, H, W) is what every view must have; None for any.
    """

    def __init__(self, dataset: Any, seed: int, shape: Sequence[int] | None = None) -> None:
        super().__init__(dataset)
        self.seed = seed
        self.shape = None if shape is None else tuple(shape)

    def __getitem__(self, place: Any) -> Any:
        view, index = place
        return self.readable(index, lambda index: self.render(index, view))

    def render(self, index: int, view: int) -> tuple[dict, int]:
        """A view and its hash.

        Raises:
            DataError: It has another shape than expected.
        """
        rendered = render_view(self.dataset, index, view, self.seed)
        found = tuple(rendered['inputs'].shape)
        if self.shape is not None and found != self.shape:
            raise DataError(
                f'view {view} has the shape {found}, and the first view {self.shape}; decisions are '
                'stored for views of one size, so let the pipeline crop or resize to one'
            )
        return rendered, hash_view(rendered['inputs'])


#: Images whose views are rendered twice before anything is stored.
TRIED = 8


def check_drawn_again(views: Views) -> None:
    """Set the shape of views, and see to it that they can be drawn again.

    Raises:
        ConfigError: Some are others the second time.
        DataError: They differ in shape, or can't be read.
    """

    def drawn(index: int) -> Any:
        found = views[0, index]
        refuse_unreadable(found, ())
        return found

    views.shape = tuple(drawn(0)[0]['inputs'].shape)
    indices = [number * len(views) // TRIED for number in range(TRIED)]
    first = {index: drawn(index)[1] for index in indices}
    if any(drawn(index)[1] != first[index] for index in reversed(indices)):
        raise ConfigError(
            'The training pipeline draws other views from the same seed, so what is decided about them '
            'can not be used again. Take the transform out that draws with a generator of its own, not '
            "python's random, numpy.random or torch's (some of albumentations' do)."
        )


class _Collate:
    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, items: Sequence) -> ViewBatch:
        hashes = np.array([found for _, found in items], np.uint64)
        return ViewBatch(self.collate([rendered for rendered, _ in items]), hashes)


def render_batches(
    stream: FeatureStream, views: Views, places: Iterable[Sequence[tuple[int, int]]]
) -> Iterator[ViewBatch]:
    """Batches of views, in order, made by the workers and the collate function of the stream's loader.

    ``places`` has for each batch (view, index) of its images, and is iterated once.

    Raises:
        DataError: There are images that can't be read, or views of another size.
    """
    own = stream.loader
    given: Any = dict(dataset=views, batch_sampler=places)
    loader: Iterable = DataLoader(
        **given,
        num_workers=own.num_workers,
        prefetch_factor=own.prefetch_factor,
        collate_fn=CollateReadable(_Collate(own.collate_fn.collate)),
        pin_memory=own.pin_memory,
        worker_init_fn=own.worker_init_fn,
        multiprocessing_context=own.multiprocessing_context,
    )
    batches = iter(loader)
    for found in batches:
        refuse_unreadable(found, batches)
        yield found
