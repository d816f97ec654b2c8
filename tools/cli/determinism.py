"""What ``randomness=dict(deterministic=True)`` needs on a GPU besides mmengine's switches."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from mmengine.device import get_device

from mmkdlayer.errors import ConfigError

#: Where cuBLAS is told how much memory its products may use.
VARIABLE = 'CUBLAS_WORKSPACE_CONFIG'
#: The settings with which torch takes its products for deterministic; it refuses every other product.
ACCEPTED = (':4096:8', ':16:8')


def prepare_determinism(cfg: Mapping[str, Any]) -> None:
    """Let matrix products be deterministic on a GPU, if ``randomness.deterministic`` asks for it.

    It must be called before the first product on the GPU. A variable that is set stays.

    Raises:
        ConfigError: The variable is set to what torch refuses.
    """
    if not (cfg.get('randomness') or {}).get('deterministic') or get_device() != 'cuda':
        return
    given = os.environ.setdefault(VARIABLE, ACCEPTED[0])
    if given not in ACCEPTED:
        raise ConfigError(
            f'randomness.deterministic=True: {VARIABLE}={given}, but products on a GPU are '
            f'deterministic with {" or ".join(ACCEPTED)} alone. Take the variable out of the '
            'environment.'
        )
