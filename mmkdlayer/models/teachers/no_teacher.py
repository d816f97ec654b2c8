"""What stands in the place of a teacher that is not there: its decisions are stored, or not needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmkdlayer.models.labels import read_stored
from mmkdlayer.registry import MODELS


@MODELS.register_module()
class NoTeacher(BaseModel):
    """No weights, and a forward pass that runs nothing; it may hand over stored logits.

    Args:
        teacher: Config of the teacher that it stands for, and is not built.
        teacher_ckpt: Its checkpoint, which is not read.
        modules: Names of modules of the teacher that recorders read, such as ``head.fc``.
        classes: C of the logits that are stored of the images, which these modules return; 0 for none.
    """

    def __init__(
        self,
        teacher: Any = None,
        teacher_ckpt: str | None = None,
        modules: Sequence[str] = (),
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.names, self.classes = tuple(modules), classes
        for name in self.names:
            place: nn.Module = self
            for part in name.split('.'):
                if part not in dict(place.named_children()):
                    place.add_module(part, nn.Identity())
                place = place.get_submodule(part)

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor') -> dict:
        """Hand over the logits (N, C), if there are any; no losses.

        Raises:
            DataError: The images came without.
        """
        if self.classes:
            stored = read_stored(data_samples, 'logits', inputs)
            logits = dense_logits(stored, self.classes)
            for name in self.names:
                self.get_submodule(name)(logits)
        return {}


def dense_logits(stored: dict[str, Tensor], classes: int) -> Tensor:
    """Logits (N, C), float32, from the k largest of each image and what stands for all others.

    ``stored`` has ``rows`` (N, k), which they are; ``values`` (N, k); ``rest`` (N,), the log of the
    mean of exp of the others.
    """
    dense = stored['rest'].float()[:, None].repeat(1, classes)
    return dense.scatter_(1, stored['rows'], stored['values'].to(torch.float32))
