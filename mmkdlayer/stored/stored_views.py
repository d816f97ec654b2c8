"""A training set whose images come in the views that a store has decisions for, with these decisions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import MethodType
from typing import Any

import numpy as np
import torch
from mmengine.dataset import ClassBalancedDataset, InfiniteSampler, RepeatDataset

from mmkdlayer.errors import DataError, StoreError
from mmkdlayer.models.labels import STORED
from mmkdlayer.registry import DATA_SAMPLERS, DATASETS

from .files import Store
from .views import hash_view, render_view


@DATASETS.register_module()
class StoredViews:
    """Renders the views of another data set's images again, and hands over what is stored of them.

    In epoch e an image is seen in view ``e mod V``; where a wrapper (RepeatDataset,
    ClassBalancedDataset) gives it n times in an epoch, in ``e n, ..., e n + n - 1 (mod V)``. Each
    rendered image is compared with the hash of the one that the teacher saw.

    Args:
        dataset: The training set, or its config.
        store: Folder of the stored decisions.

    Attributes:
        images: The training set without wrappers that repeat images: those that decisions are stored of.
        store: What is stored.
        epoch: The epoch, in memory that data workers share.

    Raises:
        StoreError: There is no such store, or it is of another number of images.
    """

    def __init__(self, dataset: Any, store: str | os.PathLike) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        self.store = Store.open(store)
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.images, self._places = unrepeated(self.dataset)
        if len(self.images) != self.store.images:
            raise StoreError(
                f'The decisions in {store} are of {self.store.images} images, but the training set has '
                f'{len(self.images)}. Train on the images that they were stored for, or store anew.'
            )

    def __getattr__(self, name: str) -> Any:
        # What samplers and checks ask of a data set.
        if name.startswith('__') or 'dataset' not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """An image with its decisions; ``index`` plus n times the length is the same, n epochs later.

        Raises:
            DataError: The view is drawn in another way than when it was stored.
            StoreError: It can't be read any more.
        """
        later, index = divmod(int(index), len(self))
        image, turn, turns = (index, 0, 1) if self._places is None else self._places[index]
        view = ((int(self.epoch) + later) * turns + turn) % self.store.views
        rendered = self.render(int(image), int(view))
        record = self.store.read(int(view), int(image))
        if int(record.pop('hash')) != hash_view(rendered['inputs']):
            raise DataError(
                f'View {view} of image {image} of the training set ({self.name(int(image))}) is not '
                f'the one that the decisions in {self.store.folder} are of: the image has changed, or '
                'it is drawn in another way than when they were stored. Store them anew.'
            )
        rendered['data_samples'].set_field(record, STORED)
        return rendered

    def render(self, image: int, view: int) -> dict[str, Any]:
        """A view of an image, without its decisions."""
        return render_view(self.images, image, view, self.store.manifest['seed'])

    def name(self, image: int) -> str:
        """How messages name an image."""
        known = hasattr(self.images, 'get_data_info')
        return str((self.images.get_data_info(image) if known else {}).get('img_path', 'no file'))


def unrepeated(dataset: Any) -> tuple[Any, np.ndarray | None]:
    """A data set without the wrappers that repeat images.

    Returns:
        The data set; and for each index of the given one the image, which of its turns in an epoch this
        is and how many it has, (length, 3), or None where all is as it is.
    """
    places = None
    while isinstance(dataset, (RepeatDataset, ClassBalancedDataset)):
        dataset.full_init()
        inner = [dataset._get_ori_dataset_idx(index) for index in range(len(dataset))]
        order = np.asarray(inner, dtype=np.int64)
        places = order if places is None else order[places]
        dataset = dataset.dataset
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    if places is None:
        return dataset, None
    turns = np.bincount(places, minlength=len(dataset))
    # A stable sort keeps the turns of an image in the order of the indices.
    sorted_indices = np.argsort(places, kind='stable')
    starts = np.cumsum(turns) - turns
    turn = np.empty_like(places)
    turn[sorted_indices] = np.arange(len(places)) - starts[places[sorted_indices]]
    return dataset, np.stack([places, turn, turns[places]], axis=1)


@DATA_SAMPLERS.register_module()
def view_sampler(
    sampler: Mapping[str, Any], dataset: StoredViews, seed: int | None = None
) -> Sequence[int]:
    """The sampler of a config, which lets the views follow the epochs.

    Where it never ends, an index that is drawn in the n-th pass over the data set is n times its
    length larger.
    """
    built = DATA_SAMPLERS.build(sampler, default_args=dict(dataset=dataset, seed=seed))
    if isinstance(built, InfiniteSampler):
        endless, length = built._infinite_indices, built.size

        def numbered(self: InfiniteSampler) -> Any:
            for count, index in enumerate(endless()):
                yield count // length * length + index

        built._infinite_indices = MethodType(numbered, built)
        built.indices = built._indices_of_rank()
    elif hasattr(built, 'set_epoch'):
        set_epoch = built.set_epoch

        def noting(self: Any, epoch: int) -> None:
            dataset.epoch.fill_(epoch)
            set_epoch(epoch)

        built.set_epoch = MethodType(noting, built)
    return built
