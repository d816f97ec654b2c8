"""Image files that can't be read, or only in part."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from PIL import Image, UnidentifiedImageError


def why_bad(path: str, load: Callable[[str], Any], full: bool = True) -> str:
    """Why an image file can't be used; empty if it can.

    ``load`` reads it as the pipeline does; whatever it raises tells that it can't. ``full`` decodes
    the file even if it begins and ends as an image does.
    """
    try:
        path.encode()
        if not full and looks_whole(path):
            return ''
        if os.path.getsize(path) == 0:
            return 'empty file'
    except UnicodeEncodeError:
        return 'its name is not UTF-8'
    except OSError as error:
        return error.strerror or type(error).__name__
    try:
        load(path)
        loads = True
    except Exception:
        loads = False
    try:
        with Image.open(path) as image:
            image.load()
        problem = '' if loads else 'not decoded by the pipeline'
    except UnidentifiedImageError:
        problem = 'no known image format'
    except Exception as error:
        problem = ' '.join(str(error).split())[:80]
    # OpenCV 4 fills the rest of a truncated image with grey, and knows kinds that PIL does not.
    return problem if not loads or 'truncated' in problem else ''


def looks_whole(path: str) -> bool:
    """Whether a file begins and ends as an image of a common kind; False needs a closer look."""
    with open(path, 'rb', buffering=0) as file:
        head = file.read(32)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 256))
        tail = file.read()
    if head.startswith(b'\xff\xd8\xff'):
        return b'\xff\xd9' in tail
    if head.startswith(b'\x89PNG\r\n\x1a\n'):
        return b'IEND' in tail
    if head[:4] == b'RIFF' and head[8:12] == b'WEBP':
        return int.from_bytes(head[4:8], 'little') + 8 <= size
    if head[:2] == b'BM':
        return int.from_bytes(head[2:6], 'little') <= size
    return False
