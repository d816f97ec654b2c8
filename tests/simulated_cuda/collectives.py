"""Process groups that follow NCCL's rules, on gloo: what may travel, and in which order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as torch_dist
from torch.distributed import distributed_c10d

from simulated_cuda.device import ANYWHERE, SimulatedCuda, tensors_in

#: Types that NCCL carries.
CARRIED = {
    torch.uint8, torch.int8, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64,
    torch.bfloat16, torch.bool,
}  # fmt: skip


class BrokenRuleError(RuntimeError):
    """What NCCL would have refused, or would have hung on."""


class Ledger:
    """Checks each collective and writes it down, a line of JSON each.

    Args:
        cuda: The simulated devices of this process.
        path: The file to write.
    """

    def __init__(self, cuda: SimulatedCuda, path: Path) -> None:
        self.cuda = cuda
        self.file = path.open('w')
        #: Names of the groups that were asked to be gloo's.
        self.on_host: set[str] = set()
        self.device_is_chosen = False

    def check(self, func: Any, args: tuple, kwargs: dict) -> None:
        """Check a collective before it runs, whoever calls it: torch's own C++ too."""
        name = func._schema.name.split('::')[1]
        on_host = self._group(args, kwargs) in self.on_host
        tensors = [] if name == 'barrier' else list(tensors_in(args, kwargs))
        for tensor in tensors:
            place = self.cuda.place(tensor)
            if place == ANYWHERE:  # made by torch's own C++
                continue
            if on_host and place.type != 'cpu':
                raise BrokenRuleError(f'{name}: {place} in a group of gloo')
            if not on_host:
                self._check(name, tensor, place)
        shapes = sorted((str(t.dtype), t.numel()) for t in tensors)
        self.write([name, 'gloo' if on_host else 'nccl', shapes])

    def _check(self, name: str, tensor: torch.Tensor, place: torch.device) -> None:
        if not self.device_is_chosen:
            raise BrokenRuleError(f'{name}: before torch.cuda.set_device')
        if place != torch.device('cuda', self.cuda.current):
            raise BrokenRuleError(f'{name}: a tensor on {place} by {self.cuda.current}')
        if tensor.layout != torch.strided or not tensor.is_contiguous():
            raise BrokenRuleError(f'{name}: a tensor that is not contiguous')
        if tensor.dtype not in CARRIED:
            raise BrokenRuleError(f'{name}: {tensor.dtype}')

    def write(self, entry: Any) -> None:
        """Note something whose order must be the same on all ranks."""
        self.file.write(json.dumps(entry) + '\n')
        self.file.flush()

    def _group(self, args: tuple, kwargs: dict) -> str:
        for value in (*args, *kwargs.values()):
            if isinstance(value, torch._C.ScriptObject):
                try:
                    return torch_dist.ProcessGroup.unbox(value).group_name
                except RuntimeError:  # it is the operation of a reduction
                    continue
        raise AssertionError('a collective without a group')


@contextmanager
def nccl_rules(cuda: SimulatedCuda, path: Path) -> Iterator[Ledger]:
    """Let process groups be NCCL's where nobody asks for gloo; within the simulation of devices."""
    ledger = Ledger(cuda, path)
    init, new = torch_dist.init_process_group, torch_dist.new_group
    barrier = torch_dist.barrier
    set_device = torch.cuda.set_device

    def choose(device: Any) -> None:
        set_device(device)
        ledger.device_is_chosen = True

    def init_group(*args: Any, **kwargs: Any) -> None:
        asked = kwargs.pop('backend', args[0] if args else None)
        if asked not in (None, 'nccl', 'gloo'):
            raise BrokenRuleError(f'backend {asked}')
        ledger.write(['init_process_group', asked])
        init('gloo', *args[1:], **kwargs)
        if asked == 'gloo':
            ledger.on_host.add(torch_dist.group.WORLD.group_name)

    def new_group(*args: Any, **kwargs: Any) -> Any:
        asked = kwargs.pop('backend', None)
        ledger.write(['new_group', asked])
        group = new(*args, backend='gloo', **kwargs)
        if asked == 'gloo':
            ledger.on_host.add(group.group_name)
        return group

    def get_backend(group: Any = None) -> str:
        group = torch_dist.group.WORLD if group is None else group
        return 'gloo' if group.group_name in ledger.on_host else 'nccl'

    in_barrier = []

    def object_device(group: Any = None) -> torch.device:
        host = in_barrier or get_backend(group) == 'gloo'
        return torch.device('cpu' if host else 'cuda')

    def wait(*args: Any, **kwargs: Any) -> Any:
        in_barrier.append(True)  # torch's own C++ makes the tensor that travels
        try:
            return barrier(*args, **kwargs)
        finally:
            in_barrier.pop()

    with ExitStack() as stack:
        for name in ('_get_object_coll_device', '_get_pg_default_device'):  # of new and old torch
            if hasattr(distributed_c10d, name):
                stack.enter_context(mock.patch.object(distributed_c10d, name, object_device))
        for name, function in dict(
            init_process_group=init_group,
            new_group=new_group,
            get_backend=get_backend,
            barrier=wait,
        ).items():
            stack.enter_context(mock.patch.object(torch_dist, name, function))
        stack.enter_context(mock.patch.object(torch.cuda, 'set_device', choose))
        cuda.collective = ledger.check
        try:
            yield ledger
        finally:
            cuda.collective = None
            ledger.file.close()
