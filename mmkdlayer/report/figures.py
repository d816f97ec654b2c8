"""Two figures as arrays, for mmengine's visualizer: what teacher and student see, and what fires."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from .findings import Findings
from .pictures import heat_map, lay_over
from .student_section import viewed
from .teacher_section import overlays_of

#: The side of an image in pixels, and templates of each.
SIDE, TEMPLATES = 112, 5


def decision_figure(findings: Findings, name: str) -> np.ndarray:
    """Rows of an image and its colour maps, the teacher's if it was run, then the student's.

    Args:
        findings: What was collected, with examples.
        name: Of the layer.

    Returns:
        RGB, (height, width, 3), uint8.
    """
    rows = []
    for example in viewed(findings):
        image = _open(example.picture)
        overlays = overlays_of(example, name, findings.layers[name].decision)
        rows.append([image, *(lay_over(image, overlay) for _, overlay in overlays)])
    return _grid(rows)


def template_figure(findings: Findings, name: str) -> np.ndarray:
    """Rows of an image, and where each of its strongest templates fires.

    Args:
        findings: What was collected, with examples.
        name: Of the layer.

    Returns:
        RGB, (height, width, 3), uint8.
    """
    rows = []
    for example in viewed(findings):
        image = _open(example.picture)
        shares = example.layers[name].shares[:TEMPLATES]
        rows.append([image, *(lay_over(image, heat_map(share), 0.85) for share in shares)])
    return _grid(rows)


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
