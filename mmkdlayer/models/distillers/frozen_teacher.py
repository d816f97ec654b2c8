"""What it means that a teacher is frozen: always in eval mode, and a constant in checkpoints."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn


def keep_in_eval(module: nn.Module) -> None:
    """Put a module into eval mode for good: ``train()`` on it, or on what holds it, changes nothing.

    mmrazor freezes the teacher's batch norms only; its dropout and drop path would stay on.
    """
    module.eval()
    # A partial: a deep copy of the module refers to the copy, and the module pickles.
    module.train = partial(_stay_in_eval, module)  # type: ignore[method-assign]


def _stay_in_eval(module: nn.Module, mode: bool = True) -> nn.Module:
    return type(module).train(module, False)


def leave_out_of_state_dict(module: nn.Module) -> None:
    """Leave a constant module out of the state dict of what holds it, and accept that on loading.

    A state dict that does hold the module still loads into it.
    """
    module._register_state_dict_hook(_drop_entries)
    module._register_load_state_dict_pre_hook(_fill_in_entries, with_module=True)


def _drop_entries(module: nn.Module, state_dict: dict, prefix: str, metadata: Any) -> None:
    if not prefix:  # the module's own state dict, asked for directly
        return
    for key in [key for key in state_dict if key.startswith(prefix)]:
        del state_dict[key]


def _fill_in_entries(module: nn.Module, state_dict: dict, prefix: str, *args: Any) -> None:
    if any(key.startswith(prefix) for key in state_dict):
        return
    buffers = dict(module.named_buffers())
    persistent = {
        key
        for name, child in module.named_modules()
        for key in (f'{name}.{b}' if name else b for b in child._buffers)
        if key.rsplit('.', 1)[-1] not in child._non_persistent_buffers_set
    }
    for name, parameter in module.named_parameters():
        state_dict[prefix + name] = parameter.detach()
    for name in persistent & set(buffers):
        state_dict[prefix + name] = buffers[name]
