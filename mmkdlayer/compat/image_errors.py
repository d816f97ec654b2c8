"""Images that can't be decoded: the host's error often lacks the file's name."""

from __future__ import annotations

from functools import wraps
from typing import Any

from mmkdlayer.errors import DataError


def name_unreadable_images() -> None:
    """Let mmcv's ``LoadImageFromFile`` raise a DataError that names the file; safe to call again."""
    from mmcv.transforms import LoadImageFromFile

    read = LoadImageFromFile.transform
    if getattr(read, 'names_files', False):
        return

    @wraps(read)
    def transform(self: Any, results: dict) -> Any:
        try:
            return read(self, results)
        except Exception as error:
            reason = ' '.join(str(error).split())[:150] or type(error).__name__
            raise DataError(
                f'The image {results.get("img_path")} can not be read ({reason}). Repair or remove '
                'it; --skip-bad-images of the command train leaves out all such images.'
            ) from error

    transform.names_files = True  # type: ignore[attr-defined]
    LoadImageFromFile.transform = transform
