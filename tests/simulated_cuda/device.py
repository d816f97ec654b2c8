"""A CUDA device that is simulated: tensors on the CPU which say that they are on ``cuda:0``.

Which device a tensor is on is noted for its storage, so views and detached tensors agree. Two of torch's
modes work together:

- a TorchFunctionMode, around what Python calls, answers questions (``.device``, ``.is_cuda``), moves
  (``.to``, ``.cpu``) and makes tensors (``device='cuda'``);
- a TorchDispatchMode, around what the kernels would be called with (in backward passes too), passes
  devices on from inputs to outputs, and records what is wrong or slow on a GPU.

Recorded are mixes of devices in one operation, which raise as they do on CUDA; what makes the host wait
for the device; and copies between host and device. A host scalar (0 dimensions) is allowed where CUDA
allows it.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Callable, ClassVar, NamedTuple
from unittest import mock

import pytest
import torch
from mmengine.utils import digit_version
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

import mmkdlayer
from simulated_cuda.cuda_module import pretending_to_have
from simulated_cuda.determinism import is_refused
from simulated_cuda.questions import CPU, Questions

#: Of a tensor that torch's own C++ made: it is where the first tensor is that it meets.
ANYWHERE = torch.device('meta')
PACKAGE = str(Path(mmkdlayer.__file__).parent) + os.sep
#: Beginnings of files that are passed over on the way to who called.
PASSED = (str(Path(torch.__file__).parent), str(Path(__file__).parent), contextlib.__file__, '<')
#: Operations whose results' sizes or values the host needs before it goes on.
WAITING = {
    '_local_scalar_dense', 'nonzero', 'masked_select', '_unique', '_unique2', 'unique_dim',
    'unique_consecutive', 'equal', 'is_nonzero', 'allclose', 'bincount', '_coalesce', 'histc',
    '_linalg_eigh', '_linalg_svd', 'linalg_eigvals', '_linalg_solve_ex',
}  # fmt: skip
#: Products before which CUDA coalesces a sparse matrix, if nobody has.
SPARSE_PRODUCTS = {'mm', 'addmm', '_sparse_addmm'}
#: Operations between devices.
COPYING = {'copy_', '_foreach_copy_'}
#: Operations that take a host scalar beside tensors of a device, besides those with torch's tag.
SCALAR_FRIENDLY = {'fill_', 'fill', 'masked_fill', 'masked_fill_', 'index_put_', 'index_put'}
INDEXING = {'index', 'index_put', 'index_put_', '_index_put_impl_', '_unsafe_index'}


class Event(NamedTuple):
    """Something that happened on the device.

    Attributes:
        kind: 'mix', 'sync' or 'copy'.
        what: The operation.
        where: The line of the package that called torch, such as ``models/ops.py:12``; empty for others.
    """

    kind: str
    what: str
    where: str


class MixedDevicesError(RuntimeError):
    """What CUDA raises for tensors of different devices."""


def _place_in_package() -> str:
    """The innermost line that is neither torch's nor of this simulation, if it is the package's."""
    for frame, line in traceback.walk_stack(None):
        name = frame.f_code.co_filename
        if name.startswith(PACKAGE):
            return f'{name[len(PACKAGE) :]}:{line}'
        if not name.startswith(PASSED):
            return ''
    return ''


def tensors_in(*values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(*value)
        elif isinstance(value, dict):
            yield from tensors_in(*value.values())


def skip_with_old_torch() -> None:
    """Skip a test where torch is so old that its modes see other operations than are simulated."""
    if digit_version(torch.__version__) < digit_version('2.4'):
        pytest.skip('modes of torch before 2.4 see other operations')


class SimulatedCuda:
    """Context in which there is a CUDA device; see the module.

    Args:
        devices: How many there are.
    """

    # Of all simulations in a process: what is kept from one is on the device in the next.
    _places: ClassVar[dict[int, tuple[StorageWeakRef, torch.device]]] = {}

    def __init__(self, devices: int = 1) -> None:
        skip_with_old_torch()
        self.devices = devices
        self.current = 0
        self.events: list[Event] = []
        #: Operations that CUDA refuses under deterministic algorithms, and where they came from.
        self.refused: set[tuple[str, str]] = set()
        #: Called with each operation between processes, and its arguments.
        self.collective: Callable[..., None] | None = None
        self._listening = True
        self._most = 4096

    def __enter__(self) -> SimulatedCuda:
        with ExitStack() as stack:
            stack.enter_context(pretending_to_have(self))
            stack.enter_context(Kernels(self))
            stack.enter_context(Questions(self))
            stack.enter_context(_in_backward_passes(self))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def record(self, kind: str, what: str) -> None:
        """Note an event, with where in the package it comes from."""
        if not self._listening:
            return
        self.events.append(Event(kind, what, _place_in_package()))

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """Record nothing for a while: what a test does itself."""
        before, self._listening = self._listening, False
        try:
            yield
        finally:
            self._listening = before

    def found(self, *kinds: str) -> list[Event]:
        """The events of some kinds, and forget all."""
        events, self.events = self.events, []
        return [event for event in events if event.kind in kinds]

    def device(self, given: Any) -> torch.device:
        """A device as torch would complete it: ``cuda`` is the current one."""
        device = torch.device('cuda', given) if isinstance(given, int) else torch.device(given)
        return torch.device('cuda', self.current) if device == torch.device('cuda') else device

    def place(self, tensor: Tensor) -> torch.device:
        """Where a tensor is."""
        if tensor.layout != torch.strided:
            return self.place(_parts(tensor)[-1])
        if tensor.is_meta:
            return torch.device('meta', 0)
        found = self._places.get(_storage_of(tensor))
        return CPU if found is None else found[1]

    def knows(self, tensor: Tensor) -> bool:
        """Whether somebody has said where a tensor is."""
        return not tensor.is_meta and _storage_of(tensor) in self._places

    def known_place(self, tensor: Tensor) -> torch.device:
        """Where a tensor is; the host where it could be anywhere."""
        place = self.place(tensor)
        return CPU if place == ANYWHERE else place

    def is_anywhere(self, tensor: Tensor) -> bool:
        """Whether a tensor is one of which nobody has said where it is."""
        return self.place(tensor) == ANYWHERE

    def put(self, tensor: Tensor, device: torch.device) -> Tensor:
        """Say where a tensor is."""
        if tensor.layout != torch.strided:
            for part in _parts(tensor):
                self.put(part, device)
        elif not tensor.is_meta:
            storage = tensor.untyped_storage()
            # While there is a weak reference to a storage, no other one gets its address.
            self._places[storage._cdata] = StorageWeakRef(storage), device
            if len(self._places) > self._most:
                for key in [key for key, found in self._places.items() if found[0].expired()]:
                    del self._places[key]
                self._most = 2 * len(self._places) + 4096
        return tensor


@contextmanager
def _in_backward_passes(cuda: SimulatedCuda) -> Iterator[None]:
    """Answer questions of the Python code of backward passes too, where torch has left modes out."""
    apply = BackwardCFunction.apply

    def answered(self: Any, *args: Any) -> Any:
        with Questions(cuda):
            return apply(self, *args)

    with mock.patch.object(BackwardCFunction, 'apply', answered):
        yield


def _storage_of(tensor: Tensor) -> int:
    part = tensor if tensor.layout == torch.strided else _parts(tensor)[-1]
    return part.untyped_storage()._cdata


def _parts(tensor: Tensor) -> tuple[Tensor, ...]:
    if tensor.layout == torch.sparse_coo:
        return tensor._indices(), tensor._values()
    return tensor.crow_indices(), tensor.col_indices(), tensor.values()


def _is_uncoalesced(tensor: Tensor) -> bool:
    return tensor.layout == torch.sparse_coo and not tensor.is_coalesced()


class Kernels(TorchDispatchMode):
    """Passes devices on, and checks what each kernel is called with."""

    def __init__(self, cuda: SimulatedCuda) -> None:
        super().__init__()
        self.cuda = cuda

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.split('::')[1]
        if func.namespace == 'c10d' and self.cuda.collective is not None:
            self.cuda.collective(func, args, kwargs)
        inputs = list(tensors_in(args, kwargs))
        device = self._device(func, name, inputs, args, kwargs)
        if device.type == 'cuda' and is_refused(func, args, kwargs):
            self.cuda.refused.add((name, _place_in_package()))
        seen = {_storage_of(tensor) for tensor in inputs}
        with torch._C.DisableTorchFunction():  # the call of an operation is no question
            result = func(*args, **kwargs)
        for tensor in tensors_in(result):
            if _storage_of(tensor) not in seen and not self.cuda.knows(tensor):
                self.cuda.put(tensor, device if inputs else ANYWHERE)
        return result

    def _device(
        self, func: Any, name: str, inputs: list[Tensor], args: tuple, kwargs: dict
    ) -> torch.device:
        """Where the outputs will be."""
        cuda, places = self.cuda, [(tensor, self.cuda.place(tensor)) for tensor in inputs]
        on_device = next((place for _, place in places if place.type == 'cuda'), None)
        known = [place for _, place in places if place != ANYWHERE]
        device = on_device or next(iter(known), ANYWHERE)
        for tensor, place in places:
            if place == ANYWHERE != device:
                cuda.put(tensor, device)
        if on_device is None:
            return device
        if func.namespace == 'c10d':
            return device
        if name in COPYING:
            if len(set(known)) > 1:
                cuda.record('copy', name)
            return device
        others = [tensor for tensor, place in places if place not in (on_device, ANYWHERE)]
        if name in INDEXING:
            others = self._beside_indices(name, args, others)
        elif torch.Tag.pointwise in func.tags or name in SCALAR_FRIENDLY:
            others = [tensor for tensor in others if tensor.dim() or cuda.place(tensor) != CPU]
        if others or func.namespace == 'mkldnn':
            cuda.record('mix', name)
            shapes = [f'{tuple(tensor.shape)} on {place}' for tensor, place in places]
            raise MixedDevicesError(f'{func}: tensors on different devices: {", ".join(shapes)}')
        if name in WAITING or (name == 'repeat_interleave' and kwargs.get('output_size') is None):
            cuda.record('sync', name)
        if name in SPARSE_PRODUCTS and any(map(_is_uncoalesced, inputs)):
            cuda.record('sync', f'coalesce for {name}')
        return device

    def _beside_indices(self, name: str, args: tuple, others: list[Tensor]) -> list[Tensor]:
        """Those of the ``others`` that may not be there; CUDA takes indices of the host."""
        indices = [index for index in args[1] if index is not None]
        on_host = [index for index in indices if any(index is other for other in others)]
        own_is_host = any(args[0] is other for other in others)
        masks = [index for index in indices if index.dtype in (torch.bool, torch.uint8)]
        scalar = 'put' in name and args[2].numel() == 1
        if masks and not scalar:
            self.cuda.record('sync', f'{name} by a mask')
        if on_host and not own_is_host:
            self.cuda.record('copy', f'{name} by indices of the host')
        return [
            tensor
            for tensor in others
            if not any(tensor is index for index in on_host)
            and not ('put' in name and tensor is args[2] and not tensor.dim())
        ]
