"""Pictures of images, patches and maps."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from mmkdlayer.report.nearest import Place
from mmkdlayer.report.pictures import colour, colour_map, heat_map, lay_over, patch, to_image


def test_colours_are_as_the_pipeline_has_them() -> None:
    pixels = torch.zeros(3, 2, 2, dtype=torch.uint8)
    pixels[0] = 200
    assert to_image(pixels, bgr=False).getpixel((0, 0)) == (200, 0, 0)
    assert to_image(pixels, bgr=True).getpixel((0, 0)) == (0, 0, 200)
    assert to_image(pixels[:1], bgr=True).getpixel((0, 0)) == (200, 200, 200)
    floats = torch.tensor([[[-1.0, 1.0]]])
    assert to_image(floats, bgr=True).getpixel((1, 0)) == (255, 255, 255)


def test_a_patch_is_the_surroundings_of_its_place() -> None:
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:8, -8:] = 255  # the last cell of the first row, of 4 rows and 8 columns
    place = Place(0, (0.125, 0.9375), (0.25, 0.125), 1.0)
    found = np.asarray(patch(Image.fromarray(pixels), place, tile=16))
    # Two cells, and no further than the image: the cell is its upper right quarter.
    assert found[:6, 10:].min() > 200 and found[10:].max() < 50 and found[:, :6].max() < 50


def test_maps_have_a_pixel_for_each_position() -> None:
    found = np.asarray(colour_map(np.array([[0, -1], [9, 0]]), np.array([[False, True]] * 2)))
    assert tuple(found[0, 0]) == (*colour(0), 255)
    assert found[0, 1, 3] == 0 and tuple(found[1, 1]) == (*colour(0), 70)
    assert tuple(found[1, 0, :3]) == colour(9)
    assert np.asarray(heat_map(np.array([[0.0, 1.0]])))[0, :, 3].tolist() == [0, 255]
    over = lay_over(Image.new('RGB', (4, 4)), heat_map(np.array([[0.0, 1.0]])), opacity=1)
    assert over.getpixel((0, 3)) == (0, 0, 0) and over.getpixel((3, 0)) == (255, 64, 0)
