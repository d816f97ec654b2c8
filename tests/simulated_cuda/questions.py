"""What Python asks of tensors, and where it makes and moves them: answered for a simulated device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten

CPU = torch.device('cpu')
#: Factories whose values come from the host.
FROM_HOST = {torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor}
#: What reads a tensor's values.
READING = {
    Tensor.tolist: 'tolist',
    Tensor.__repr__: 'repr',
    Tensor.__format__: 'format',
    Tensor.__contains__: 'in',
}
REFUSED = {Tensor.numpy: 'numpy', Tensor.__array__: 'numpy', Tensor.__dlpack__: 'dlpack'}
PROPERTIES = {
    Tensor.device.__get__: lambda place: place,
    Tensor.is_cuda.__get__: lambda place: place.type == 'cuda',
    Tensor.is_cpu.__get__: lambda place: place.type == 'cpu',
    Tensor.get_device: lambda place: place.index if place.type == 'cuda' else -1,
}


class Questions(TorchFunctionMode):
    """Answers for the tensors of a :class:`SimulatedCuda`."""

    def __init__(self, cuda: Any) -> None:
        super().__init__()
        self.cuda = cuda

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in PROPERTIES:
            place = self.cuda.known_place(args[0])
            return PROPERTIES[func](place)
        if func in (Tensor.to, Tensor.cuda, Tensor.cpu, Tensor.type_as):
            return self._move(func, args, kwargs)
        if func is Tensor.pin_memory:
            pinned = args[0].clone()
            pinned.is_in_pinned_memory = True
            return pinned
        if func is Tensor.is_pinned:
            return hasattr(args[0], 'is_in_pinned_memory')
        on_device = args and isinstance(args[0], Tensor) and self.cuda.place(args[0]).type == 'cuda'
        if on_device and func in REFUSED:
            self.cuda.record('mix', REFUSED[func])
            raise TypeError(
                f"can't convert a cuda tensor to {REFUSED[func]}. Use Tensor.cpu() first."
            )
        if on_device and func in READING:
            self.cuda.record('sync', READING[func])
            with self.cuda.unheard():
                return func(*args, **kwargs)
        if func is Tensor.__deepcopy__:  # copies the storage without a kernel
            return self.cuda.put(func(*args, **kwargs), self.cuda.place(args[0]))
        if isinstance(kwargs.get('device'), (str, int, torch.device)):
            return self._make(func, args, kwargs, self.cuda.device(kwargs.pop('device')))
        if func in FROM_HOST and on_device and func is Tensor.new_tensor:
            return self._make(func, args, kwargs, self.cuda.place(args[0]))
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and self.cuda.is_anywhere(result):
            found = tree_flatten((args, kwargs))[0]
            places = [self.cuda.known_place(t) for t in found if isinstance(t, Tensor)]
            on_device = [place for place in places if place.type == 'cuda']
            self.cuda.put(result, on_device[0] if on_device else CPU)
        return result

    def _make(self, func: Any, args: tuple, kwargs: dict, device: torch.device) -> Any:
        """A new tensor on a device."""
        if device.type not in ('cuda', 'cpu'):
            return func(*args, device=device, **kwargs)
        if device.type == 'cuda' and func in FROM_HOST:
            self.cuda.record('copy', func.__name__)
        result = func(*args, device=CPU, **kwargs)
        if result is not None and self.cuda.place(result) != device:
            if any(isinstance(a, Tensor) and a is not result and _shared(a, result) for a in args):
                result = result.clone()  # as_tensor
            self.cuda.put(result, device)
        return result

    def _move(self, func: Any, args: tuple, kwargs: dict) -> Any:
        """A tensor on a device; a copy where it was on another one."""
        tensor, *rest = args
        source = device = self.cuda.known_place(tensor)
        if func is Tensor.cpu:
            device = CPU
        elif func is Tensor.cuda:
            given = rest.pop(0) if rest else kwargs.pop('device', None)
            device = self.cuda.device('cuda' if given is None else given)
        elif func is Tensor.type_as:
            device, rest = self.cuda.known_place(rest[0]), [rest[0].dtype]
        else:
            device, rest, kwargs = self._parse(source, rest, kwargs)
        if device.type not in ('cuda', 'cpu'):
            return func(tensor, device, *rest, **kwargs)
        waits = not (kwargs.get('non_blocking') and hasattr(tensor, 'is_in_pinned_memory'))
        result = tensor.to(*rest, **kwargs) if rest or kwargs else tensor
        if device == source:
            return result
        self.cuda.record('copy', f'{source} to {device}' + ('' if waits else ', not waited for'))
        result = result.clone() if _shared(result, tensor) else result
        return self.cuda.put(result, device)

    def _parse(self, device: torch.device, rest: list, kwargs: dict) -> tuple:
        """The arguments of ``Tensor.to``, without the device."""
        given = None
        other = kwargs.pop('other', rest[0] if rest and isinstance(rest[0], Tensor) else None)
        if other is not None:
            rest = rest[1:] if rest and rest[0] is other else rest
            return self.cuda.known_place(other), [other.dtype, *rest], kwargs
        if rest and (rest[0] is None or isinstance(rest[0], (str, int, torch.device))):
            given, *rest = rest
            if rest and rest[0] is None:
                rest = rest[1:]
            if rest and isinstance(rest[0], bool):  # to(device, non_blocking)
                kwargs['non_blocking'], *rest = rest
        given = kwargs.pop('device', given)
        kwargs = {key: value for key, value in kwargs.items() if value is not None}
        return (device if given is None else self.cuda.device(given)), rest, kwargs


def _shared(first: Any, second: Any) -> bool:
    if not isinstance(first, Tensor) or first.layout != torch.strided:
        return first is second
    return first.untyped_storage()._cdata == second.untyped_storage()._cdata
