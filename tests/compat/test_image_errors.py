"""An image that can't be decoded: the error names the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from PIL import Image

from mmkdlayer.compat.image_errors import name_unreadable_images
from mmkdlayer.errors import DataError


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('content', [b'', b'<html></html>'])
def test_bad_file_is_named(tmp_path: Path, backend: str, content: bytes) -> None:
    file = tmp_path / 'bad.jpg'
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf'The image {file} can not be read \(.+\)\. Repair'):
        LoadImageFromFile(imdecode_backend=backend).transform(dict(img_path=str(file)))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='gone.jpg can not be read .*No such file'):
        LoadImageFromFile().transform(dict(img_path=str(tmp_path / 'gone.jpg')))


def test_good_files_are_read_and_wrapping_twice_is_wrapping_once(tmp_path: Path) -> None:
    before = LoadImageFromFile.transform
    name_unreadable_images()
    assert LoadImageFromFile.transform is before
    pixels = np.full((3, 4, 3), 7, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'good.png')
    found = LoadImageFromFile().transform(dict(img_path=str(tmp_path / 'good.png')))
    assert (found['img'] == pixels).all()


def test_the_host_still_ignores_what_it_is_told_to(tmp_path: Path) -> None:
    load = LoadImageFromFile(ignore_empty=True)
    assert load.transform(dict(img_path=str(tmp_path / 'gone.jpg'))) is None
