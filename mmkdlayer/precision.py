"""Real float32 products, whatever torch's switches for faster ones say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

#: Whether torch has the newer switches, ``fp32_precision`` of each backend and operation (torch 2.9).
NEWER_SWITCHES = hasattr(torch.backends.cuda.matmul, 'fp32_precision')
_EXACT = ('none', 'ieee')
_BACKENDS: Any = torch.backends
_MATMULS: tuple[Any, ...] = ()
_CONVOLUTIONS: tuple[Any, ...] = ()
if NEWER_SWITCHES:
    _MATMULS = (_BACKENDS.cuda.matmul, _BACKENDS.mkldnn.matmul)
    _CONVOLUTIONS = (_BACKENDS.cudnn.conv, _BACKENDS.mkldnn.conv)


@contextmanager
def float32_products() -> Iterator[None]:
    """Inside, float32 products and convolutions are float32 on every device: no TF32, no bfloat16.

    The switches that ask for less are set aside and put back. Torch has older ones
    (``torch.set_float32_matmul_precision``, ``allow_tf32``) and since 2.9 newer ones
    (``fp32_precision``). Where the two disagree it refuses to read the older one, and some products on
    a GPU do read it: inside they agree, and afterwards each says what it said before.
    """
    convolutions = False if NEWER_SWITCHES else _BACKENDS.cudnn.allow_tf32
    newer = [(switch, switch.fp32_precision) for switch in _MATMULS + _CONVOLUTIONS]
    lowered = [switch for switch, before in newer if before not in _EXACT]
    matmul = 'highest'
    try:
        for switch in lowered:
            switch.fp32_precision = 'ieee'
        if convolutions:
            _BACKENDS.cudnn.allow_tf32 = False
        # Torch 2.9 warns that reading the older one is out of date: not where it is surely exact.
        if not NEWER_SWITCHES or any(switch in _MATMULS for switch in lowered):
            matmul = torch.get_float32_matmul_precision()
        if matmul != 'highest':
            torch.set_float32_matmul_precision('highest')
        yield
    finally:
        if matmul != 'highest':
            torch.set_float32_matmul_precision(matmul)  # writes the newer ones too
        if convolutions:
            _BACKENDS.cudnn.allow_tf32 = True
        for switch, before in newer:
            if switch in lowered or switch.fp32_precision != before:
                # It follows the switch of its backend again, where that is what it did.
                switch.fp32_precision = 'none'
                if switch.fp32_precision != before:
                    switch.fp32_precision = before
