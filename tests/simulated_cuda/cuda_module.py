"""``torch.cuda`` and ``torch.autocast`` as they are where there is a device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest import mock

import mmengine.device.utils
import torch


class _Stream:
    """A stream or an event: nothing waits, because nothing runs beside the host."""

    cuda_stream = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


class _Device(_Stream):
    """``torch.cuda.device``; the current one stays, which is enough for one device a process."""


@contextmanager
def pretending_to_have(cuda: Any) -> Iterator[None]:
    """Let ``torch.cuda`` describe a :class:`SimulatedCuda`."""

    def set_device(device: Any) -> None:
        cuda.current = cuda.device(device).index

    def nothing(*args: Any, **kwargs: Any) -> None:
        pass

    def state(*args: Any, **kwargs: Any) -> torch.Tensor:
        return cuda.rng_state.clone()

    def set_state(new: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        cuda.rng_state = new.clone()

    def set_states(new: Any, *args: Any) -> None:
        (cuda.rng_state,) = new

    def synchronize(*args: Any) -> None:
        cuda.record('sync', 'synchronize')

    properties = SimpleNamespace(
        name='Simulated', major=9, minor=0, total_memory=80 << 30, multi_processor_count=132
    )
    functions = dict(
        is_available=lambda: True,
        is_initialized=lambda: True,
        is_current_stream_capturing=lambda: False,
        is_bf16_supported=lambda *args, **kwargs: True,
        device_count=lambda: cuda.devices,
        current_device=lambda: cuda.current,
        set_device=set_device,
        device=_Device,
        synchronize=synchronize,
        get_rng_state=state,
        set_rng_state=set_state,
        get_rng_state_all=lambda: [state()],
        set_rng_state_all=set_states,
        get_device_properties=lambda *args: properties,
        get_device_name=lambda *args: properties.name,
        get_device_capability=lambda *args: (properties.major, properties.minor),
        mem_get_info=lambda *args: (properties.total_memory, properties.total_memory),
        current_stream=lambda *args: _Stream(),
        default_stream=lambda *args: _Stream(),
        stream=lambda *args: nullcontext(),
        Stream=_Stream,
        Event=_Stream,
        _lazy_init=nothing,
        _is_in_bad_fork=lambda: False,
    )
    functions.update(
        dict.fromkeys(
            ('init', 'empty_cache', 'manual_seed', 'manual_seed_all', 'reset_peak_memory_stats'),
            nothing,
        )
    )
    for name in ('memory_allocated', 'max_memory_allocated', 'memory_reserved'):
        functions[name] = lambda *args, **kwargs: 0
    cuda.rng_state = torch.zeros(16, dtype=torch.uint8)
    with ExitStack() as stack:
        for name, function in functions.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, function))
        stack.enter_context(mock.patch.object(mmengine.device.utils, 'DEVICE', 'cuda'))
        for name in ('current_stream', 'current_device_index'):
            if hasattr(getattr(torch, 'accelerator', None), name):
                function = _Stream if name == 'current_stream' else functions['current_device']
                stack.enter_context(mock.patch.object(torch.accelerator, name, function))
        stack.enter_context(_loading(cuda))
        grouped = _group_tensors(cuda)
        stack.enter_context(
            mock.patch.object(torch._C, '_group_tensors_by_device_and_dtype', grouped)
        )
        stack.enter_context(mock.patch.object(torch.autocast, '__init__', _autocast(cuda)))
        yield


def _autocast(cuda: Any) -> Any:
    """``torch.autocast.__init__`` with the CPU's autocast for that of CUDA."""
    init = torch.autocast.__init__

    def patched(self: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
        init(self, 'cpu' if device_type == 'cuda' else device_type, *args, **kwargs)

    return patched


def _group_tensors(cuda: Any) -> Any:
    """What optimisers group their tensors with, by the simulated devices: here they are all on one."""
    group = torch._C._group_tensors_by_device_and_dtype

    def grouped(*args: Any, **kwargs: Any) -> dict:
        found = group(*args, **kwargs)
        return {
            (next((cuda.known_place(t) for t in lists[0] if t is not None), device), dtype): (
                lists,
                indices,
            )
            for (device, dtype), (lists, indices) in found.items()
        }

    return grouped


@contextmanager
def _loading(cuda: Any) -> Iterator[None]:
    """Let ``torch.load`` put tensors on a simulated device."""

    def put(storage: Any, location: str) -> Any:
        if not location.startswith('cuda'):
            return None
        tensor = torch.empty(0, dtype=torch.uint8).set_(storage)
        cuda.record('copy', f'load to {location}')
        cuda.put(tensor, cuda.device(location))
        return storage

    registry = torch.serialization._package_registry
    before = list(registry)
    torch.serialization.register_package(0, lambda storage: None, put)
    try:
        yield
    finally:
        registry[:] = before
