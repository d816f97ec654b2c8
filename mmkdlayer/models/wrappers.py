"""Models inside distributed wrappers."""

from __future__ import annotations

from typing import Any

from mmengine.model import is_model_wrapper


def unwrap_model(model: Any) -> Any:
    """The model inside a distributed wrapper; another model as it is."""
    return model.module if is_model_wrapper(model) else model
