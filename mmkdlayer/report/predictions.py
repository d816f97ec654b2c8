"""What a report leaves for comparisons: the student's answers, and small pictures of its mistakes."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from mmkdlayer.atomic import replacing
from mmkdlayer.errors import ConfigError

from .pictures import jpeg, shrink

FILE = 'predictions.npz'
#: Pictures of mistakes that are kept, about as many of each class, and the longer side of one.
MOST_PICTURES, SIDE = 4000, 64


@dataclass
class Predictions:
    """A student's answers."""

    title: str  #: what the student is called
    classes: Sequence[str]  #: their names
    indices: np.ndarray  #: of the images, in the data set
    labels: np.ndarray  #: their classes
    predicted: np.ndarray  #: the student's answers
    #: JPEG files of images that it got wrong, by index; not of all where there are many.
    pictures: dict[int, bytes] = field(default_factory=dict)

    def save(self, folder: str | os.PathLike) -> Path:
        """Write the file into a report's folder."""
        path = Path(folder, FILE)
        content = b''.join(self.pictures.values())
        with replacing(path) as partial, partial.open('wb') as file:
            np.savez_compressed(
                file,
                about=json.dumps(dict(title=self.title, classes=list(self.classes))),
                indices=self.indices,
                labels=self.labels,
                predicted=self.predicted,
                shown=np.array(list(self.pictures), np.int64),
                lengths=np.array(list(map(len, self.pictures.values())), np.int64),
                pictures=np.frombuffer(content, np.uint8),
            )
        return path

    @classmethod
    def load(cls, folder: str | os.PathLike) -> Predictions:
        """Read the file of a report's folder.

        Raises:
            ConfigError: There is none, or it is damaged.
        """
        path = Path(folder, FILE)
        try:
            with np.load(path, allow_pickle=False) as stored:
                about = json.loads(str(stored['about']))
                content, ends = stored['pictures'].tobytes(), np.cumsum(stored['lengths'])
                starts = ends - stored['lengths']
                pictures = {
                    int(index): content[start:end]
                    for index, start, end in zip(stored['shown'], starts, ends)
                }
                return cls(
                    about['title'],
                    about['classes'],
                    stored['indices'],
                    stored['labels'],
                    stored['predicted'],
                    pictures,
                )
        except (OSError, KeyError, ValueError, EOFError, TypeError) as error:
            raise ConfigError(
                f'--compare {folder}: expected a folder that "python -m mmkdlayer report" has written, '
                f'with {FILE}, but it can not be read ({type(error).__name__}: {error}).'
            ) from error


class MistakePictures:
    """Keeps small pictures of images that a student gets wrong, about as many of each class."""

    def __init__(self, classes: int) -> None:
        self.each = max(1, MOST_PICTURES // max(1, classes))
        self.taken: Counter[int] = Counter()
        self.pictures: dict[int, bytes] = {}

    def wants(self, label: int, predicted: int) -> bool:
        """Whether there is room for the picture of an image."""
        return predicted != label >= 0 and self.taken[label] < self.each

    def add(self, index: int, label: int, picture: Image.Image) -> None:
        """Keep a picture."""
        self.taken[label] += 1
        self.pictures[index] = jpeg(shrink(picture, SIDE), quality=70)
