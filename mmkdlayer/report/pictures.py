"""Images of a data set as people see them: thumbnails, patches and overlays as data URIs."""

from __future__ import annotations

import base64
import colorsys
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from .nearest import Place

#: Sides in pixels: of a tile of a strip, and the longer one of a whole image, at most.
TILE, WHOLE = 44, 144
#: Colours that people who confuse red and green tell apart (Okabe and Ito, 2008).
COLOURS = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167), (120, 120, 120)),
)


def to_image(pixels: Any, bgr: bool) -> Image.Image:
    """A picture of what a pipeline gives for an image.

    Args:
        pixels: Tensor (C, H, W) with 1 or 3 channels: of bytes, or of other numbers, which are spread
            over all of grey.
        bgr: Whether the channels are blue, green, red.
    """
    array = np.asarray(pixels)
    if array.dtype != np.uint8:
        low, high = float(array.min()), float(array.max())
        array = ((array - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    array = array[::-1] if bgr and len(array) == 3 else array
    array = array[:1].repeat(3, 0) if len(array) != 3 else array
    return Image.fromarray(np.ascontiguousarray(array.transpose(1, 2, 0)))


def patch(image: Image.Image, place: Place, tile: int = TILE) -> Image.Image:
    """The surroundings of a place: a square of two cells or a quarter of the image, the larger."""
    width, height = image.size
    side = max(2 * place.cell[0] * height, 2 * place.cell[1] * width, min(width, height) / 4)
    side = max(1, round(min(side, width, height)))
    left = round(min(max(place.center[1] * width - side / 2, 0), width - side))
    top = round(min(max(place.center[0] * height - side / 2, 0), height - side))
    found = image.crop((left, top, left + side, top + side))
    return found.resize((tile, tile), Image.Resampling.BICUBIC)


def strip(tiles: Sequence[Image.Image], tile: int = TILE) -> Image.Image:
    """Tiles in a row."""
    found = Image.new('RGB', (tile * max(1, len(tiles)), tile))
    for index, one in enumerate(tiles):
        found.paste(one, (index * tile, 0))
    return found


def shrink(image: Image.Image, side: int = WHOLE) -> Image.Image:
    """An image no larger than a square of this side."""
    found = image.copy()
    found.thumbnail((side, side), Image.Resampling.LANCZOS)
    return found


def jpeg(image: Image.Image, quality: int = 72) -> bytes:
    """The image as a JPEG file."""
    stream = io.BytesIO()
    image.save(stream, 'JPEG', quality=quality, optimize=True)
    return stream.getvalue()


def png(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    stream = io.BytesIO()
    image.save(stream, 'PNG', optimize=True)
    return stream.getvalue()


def data_uri(content: bytes, kind: str = 'jpeg') -> str:
    """A file as a URI that holds it."""
    return f'data:image/{kind};base64,{base64.b64encode(content).decode()}'


def colour(number: int) -> tuple[int, int, int]:
    """The colour of a sub-class: one of :data:`COLOURS`, then others."""
    if number < len(COLOURS):
        return COLOURS[number]
    found = colorsys.hsv_to_rgb((number * 0.618034) % 1, 0.6, 0.9)
    return (int(255 * found[0]), int(255 * found[1]), int(255 * found[2]))


def colour_map(numbers: np.ndarray, faint: np.ndarray | None = None) -> Image.Image:
    """An overlay of colours by their numbers (H, W), negative for none; some may be faint (H, W)."""
    pixels = np.zeros((*numbers.shape, 4), np.uint8)
    for number in np.unique(numbers[numbers >= 0]):
        pixels[numbers == number] = (*colour(int(number)), 255)
    if faint is not None:
        pixels[faint & (numbers >= 0), 3] = 70
    return Image.fromarray(pixels)


def heat_map(values: np.ndarray) -> Image.Image:
    """An overlay of how strong something is (H, W), from 0 to 1: opaque where it is 1."""
    pixels = np.zeros((*values.shape, 4), np.uint8)
    pixels[..., :3] = (255, 64, 0)
    pixels[..., 3] = np.clip(values * 255, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels)


def lay_over(image: Image.Image, overlay: Image.Image, opacity: float = 0.6) -> Image.Image:
    """The image with an overlay on it, each of whose pixels is a rectangle."""
    over = overlay.resize(image.size, Image.Resampling.NEAREST)
    over.putalpha(over.getchannel('A').point(lambda value: round(value * opacity)))
    return Image.alpha_composite(image.convert('RGBA'), over).convert('RGB')
