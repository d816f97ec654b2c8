"""The images that a report looks at, and pictures of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.config import ConfigDict
from PIL import Image
from tqdm import tqdm

from mmkdlayer.engine.feature_stream import FeatureStream
from mmkdlayer.engine.streamed_images import refuse_unreadable
from mmkdlayer.engine.teacher_views import loads_bgr
from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.pipelines import in_order

from .networks import Networks
from .pictures import patch, to_image

#: Images of a batch: a layer's assignments, positions by templates, are in memory at once.
MOST_AT_A_TIME = 64


class InOrder:
    """Indices of a data set in order, all of them in each process."""

    def __init__(self, dataset: Any, seed: int = 0) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.dataset)))

    def __len__(self) -> int:
        return len(self.dataset)


class Images:
    """The images of a data loader's config in order, evenly spaced, and pictures of them.

    Args:
        networks: Whose teachers and layers see them.
        loader: Config of the data loader, such as ``val_dataloader``.
        most: Number of images, at most; None for all.
    """

    def __init__(self, networks: Networks, loader: Any, most: int | None = None) -> None:
        batch = min(loader.get('batch_size', 1), MOST_AT_A_TIME)
        config = in_order(loader, batch_size=batch, sampler=ConfigDict(type=InOrder))
        supervised = list(networks.supervised.values())
        self.stream = FeatureStream(networks.algorithm, supervised, config, most=most)
        self.bgr = loads_bgr(dict(train_dataloader=loader))
        if not len(self.stream.images):
            raise DataError(
                f'A report needs images, but {type(self.stream.dataset).__name__} is empty.'
            )

    def __len__(self) -> int:
        return len(self.stream.images)

    def class_names(self, student: Any) -> list[str]:
        """Names of the classes, or their numbers as the student's head has them."""
        names = (getattr(self.stream.dataset, 'metainfo', None) or {}).get('classes')
        count = getattr(getattr(student, 'head', None), 'num_classes', 0) or 0
        return list(map(str, names or range(count)))

    def picture(self, index: int) -> Image.Image:
        """The image with this number among those that are read, as it goes into the networks."""
        item = self.stream.images[index]
        refuse_unreadable(item, ())
        return to_image(item['inputs'], self.bgr)

    def describe(self, index: int) -> str:
        """Where an image comes from."""
        return self.stream.images._path(self.stream.images._indices[index])

    def index(self, number: int) -> int:
        """The index in the data set of an image that is read."""
        return self.stream.images._indices[number]


def loader_key(cfg: Any) -> str:
    """The entry of a config whose images a report shows.

    Raises:
        ConfigError: There is none.
    """
    for key in ('val_dataloader', 'test_dataloader'):
        if cfg.get(key):
            return key
    raise ConfigError(
        'A report shows the images of val_dataloader, or of test_dataloader, but the config has neither.'
    )


def bar(items: Iterable[Any], desc: str, total: int, unit: str = 'batch') -> Any:
    """Show how far something is, where it takes longer than a moment."""
    return tqdm(items, desc=desc, total=total, unit=unit, delay=2, mininterval=1)


def cut_patches(
    images: Images, vocabularies: Mapping[str, Any], entries: Mapping[str, Iterable[int]]
) -> dict[tuple[str, int], list[Image.Image]]:
    """The surroundings of the nearest places of some entries; each image is read once.

    Vocabularies and their entries have the same keys.
    """
    wanted: dict[int, list[tuple[tuple[str, int], int, Any]]] = {}
    found: dict[tuple[str, int], list[Any]] = {}
    for key, chosen in entries.items():
        for entry in sorted(set(chosen)):
            places = vocabularies[key].places(entry)
            found[key, entry] = [None] * len(places)
            for rank, place in enumerate(places):
                wanted.setdefault(place.image, []).append(((key, entry), rank, place))
    for index in bar(sorted(wanted), 'patches', len(wanted), 'image'):
        picture = images.picture(index)
        for name, rank, place in wanted[index]:
            found[name][rank] = patch(picture, place)
    return found
