"""A user's own classifier: a class derived from mmpretrain's, with an argument and a forward pass."""

from __future__ import annotations

from typing import Any

from mmpretrain.models import ImageClassifier
from mmpretrain.registry import MODELS


@MODELS.register_module()
class ScaledClassifier(ImageClassifier):
    """Logits times ``factor``."""

    def __init__(self, *args: Any, factor: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.factor = factor

    def forward(self, inputs: Any, *args: Any, mode: str = 'tensor', **kwargs: Any) -> Any:
        outputs = super().forward(inputs, *args, mode=mode, **kwargs)
        return outputs * self.factor if mode == 'tensor' else outputs


@MODELS.register_module()
class NoClassifier:
    """Something else."""
