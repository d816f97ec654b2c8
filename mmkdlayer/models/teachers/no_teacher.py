"""What stands in the place of a teacher whose decisions are stored."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseModel

from mmkdlayer.registry import MODELS


@MODELS.register_module()
class NoTeacher(BaseModel):
    """Nothing: no weights, and a forward pass that does nothing.

    Args:
        teacher: Config of the teacher that it stands for, and is not built.
        teacher_ckpt: Its checkpoint, which is not read.
    """

    def __init__(self, teacher: Any = None, teacher_ckpt: str | None = None) -> None:
        super().__init__()

    def forward(self, *args: Any, **kwargs: Any) -> dict:
        """Give no losses."""
        return {}
