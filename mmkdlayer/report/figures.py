"""Two figures as arrays, for mmengine's visualizer: what teacher and student see, and what fires."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from .findings import Example, Findings
from .pictures import heat_map, lay_over
from .student_section import viewed
from .teacher_section import overlays_of

#: The side of an image in pixels, and templates of each.
SIDE, TEMPLATES = 112, 5


def decision_figure(findings: Findings, name: str) -> np.ndarray:
    """Rows of an image and its colour maps of a layer, the teacher's if it was run, then the student's.

    RGB, (height, width, 3), uint8.
    """
    decision = findings.layers[name].decision

    def maps(image: Image.Image, example: Example) -> list[Image.Image]:
        return [lay_over(image, overlay) for _, overlay in overlays_of(example, name, decision)]

    return _figure(findings, maps)


def template_figure(findings: Findings, name: str) -> np.ndarray:
    """Rows of an image, and where each of its strongest templates of a layer fires.

    RGB, (height, width, 3), uint8.
    """

    def maps(image: Image.Image, example: Example) -> list[Image.Image]:
        shares = example.layers[name].shares[:TEMPLATES]
        return [lay_over(image, heat_map(share), 0.85) for share in shares]

    return _figure(findings, maps)


def _figure(
    findings: Findings, maps: Callable[[Image.Image, Example], list[Image.Image]]
) -> np.ndarray:
    """Rows of the examples, each with what is made of it."""
    images = [(_open(example.picture), example) for example in viewed(findings)]
    return _grid([[image, *maps(image, example)] for image, example in images])


def _open(picture: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(picture)).convert('RGB')
    return image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _grid(rows: Sequence[Sequence[Image.Image]], gap: int = 4) -> np.ndarray:
    step = SIDE + gap
    width = step * max(map(len, rows), default=1) - gap
    whole = Image.new('RGB', (width, max(1, step * len(rows) - gap)), (255, 255, 255))
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            whole.paste(image, (step * column, step * row))
    return np.array(whole)
