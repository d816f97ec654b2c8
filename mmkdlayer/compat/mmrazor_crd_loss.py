"""Numbers of images for mmrazor's CRDLoss on the device of its memory.

They are entries of the data samples, of which mmpretrain's data preprocessor moves the labels alone: the
memory, on a GPU, would be indexed by tensors of the host, which is an error.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Callable

from torch import Tensor

CRD_LOSS = 'mmrazor.models.losses.crd_loss'


def run_with_numbers_moved(module: Any, run: Callable[[ModuleType], None]) -> None:
    """Run the code of CRDLoss's module, and let its memory move what it is indexed by."""
    run(module)
    forward = module.ContrastMemory.forward

    @functools.wraps(forward)
    def moving(
        self: Any, feat_s: Tensor, feat_t: Tensor, idx: Tensor, sample_idx: Tensor | None = None
    ) -> Any:
        device = self.memory_v1.device
        if sample_idx is None:  # drawn from tables that are no buffers
            drawn = self.multinomial
            drawn.prob, drawn.alias = drawn.prob.to(device), drawn.alias.to(device)
        else:
            sample_idx = sample_idx.to(device)
        return forward(self, feat_s, feat_t, idx.to(device), sample_idx)

    module.ContrastMemory.forward = moving
