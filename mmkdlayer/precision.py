"""Products of float32 matrices in full float32, whatever torch's global switches say.

Two things make torch multiply float32 matrices in fewer bits: autocast, and switches of the process
(TF32 on GPUs; TF32 and bfloat16 on CPUs). Torch 2.9 gave the switches a second form, a tree of values by
library and kind of operation, beside the old ``set_float32_matmul_precision``. It raises an error where
it finds the two in contradiction, so inside as after the context here they never are.

Convolutions on GPUs have a switch of their own, which is on by default and is not touched: what needs
full float32 there is written as matrix products.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from typing import Any

import torch

#: Values of the newer switches that mean fewer bits than float32.
_FEWER_BITS = ('tf32', 'bf16')
#: The newer switches, as library and kind, of each device's products.
_SWITCHES = dict(cuda=(('cuda', 'matmul'),), cpu=(('mkldnn', 'matmul'), ('mkldnn', 'conv')))
#: The old form sets both.
_BOTH_PRODUCTS = (('cuda', 'matmul'), ('mkldnn', 'matmul'))
# Not by the attributes ``fp32_precision``: setting that of torch.backends.mkldnn sets another switch.
# torch 2.1 has none of its own, and nothing is compiled where torch._dynamo was never imported.
is_compiling = getattr(
    torch.compiler,
    'is_compiling',
    lambda: 'torch._dynamo' in sys.modules and torch._dynamo.is_compiling(),
)
_shown: Any = getattr(torch._C, '_get_fp32_precision_getter', None)
_set: Any = getattr(torch._C, '_set_fp32_precision_setter', None)


def float32_products(
    device: torch.device, precision: str = 'float32'
) -> AbstractContextManager[None]:
    """A context in which products of float32 matrices have one stated precision.

    Autocast is off inside. Torch's switches are as they were afterwards, also after an exception. They
    belong to the process, so other threads calculate with them meanwhile. Where ``torch.compile``
    traces, only autocast is switched off: the switches count when the graph runs.

    Args:
        device: Where the matrices are.
        precision: 'float32' for all the bits of float32; 'tf32' for TensorFloat-32 (a mantissa of 10
            bits) on CUDA, and float32 elsewhere.
    """
    if is_compiling():
        return _without_autocast(device.type)
    return _products(device.type, precision)


@contextmanager
def _products(device: str, precision: str) -> Iterator[None]:
    wanted = 'tf32' if precision == 'tf32' and device == 'cuda' else 'ieee'
    with _without_autocast(device), ExitStack() as switches:
        if _set is None:
            _change_old_form(wanted, switches)
        else:
            _change(device, wanted, switches)
        yield


def _without_autocast(device: str) -> AbstractContextManager[Any]:
    """No autocast (some devices have none to leave)."""
    try:
        return torch.autocast(device, enabled=False)
    except RuntimeError:
        return nullcontext()


def _change(device: str, wanted: str, switches: ExitStack) -> None:
    """Set the switches of a device; ``switches`` puts them back, the last first."""
    for switch in _SWITCHES.get(device, ()):
        now = _shown(*switch)
        if now in _FEWER_BITS if wanted == 'ieee' else now != wanted:
            for other in (*_BOTH_PRODUCTS, switch):
                switches.callback(_set, other[0], other[1], _own(_path(other)))
            with suppress(RuntimeError):  # the user has mixed the forms already: the new one counts
                _change_old_form(wanted, switches)
            _set(*switch, wanted)


def _change_old_form(wanted: str, switches: ExitStack) -> None:
    """Set the switch for matrix products by the old form."""
    names = ('high', 'medium') if wanted == 'tf32' else ('highest',)
    now = torch.get_float32_matmul_precision()
    if now not in names:
        switches.callback(torch.set_float32_matmul_precision, now)
        torch.set_float32_matmul_precision(names[0])


def _path(switch: tuple[str, str]) -> list[tuple[str, str]]:
    """A switch and those above it, from which it takes its value where it has none."""
    return [switch, (switch[0], 'all'), ('generic', 'all')]


def _own(path: list[tuple[str, str]]) -> str:
    """What a switch itself was set to: 'none' where it shows what one above it was set to."""
    switch, *above = path
    shown = _shown(*switch)
    if not above or _shown(*above[0]) != shown:
        return shown
    kept = _own(above)
    try:
        _set(*above[0], 'ieee' if shown != 'ieee' else 'tf32')
        return shown if _shown(*switch) == shown else 'none'
    finally:
        _set(*above[0], kept)
