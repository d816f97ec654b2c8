"""The simulated device tells what a real one would: else the other tests here could not fail."""

from __future__ import annotations

import copy
from typing import Any, Callable

import pytest
import torch
from torch import Tensor, nn

from mmkdlayer.models.ops import require
from simulated_cuda.device import MixedDevicesError, SimulatedCuda


@pytest.fixture
def x(cuda: SimulatedCuda) -> Tensor:
    """A matrix (3, 4) on the device."""
    made = torch.arange(12.0).view(3, 4).to('cuda')
    cuda.events.clear()
    return made


MIXES: dict[str, Callable[[Tensor], Any]] = {
    'add': lambda x: x + torch.ones(3, 4),
    'in place': lambda x: x.mul_(torch.ones(4)),
    'into one of the host': lambda x: torch.mul(x, 2, out=torch.empty(3, 4)),
    'matmul': lambda x: x @ torch.ones(4, 2),
    'cat': lambda x: torch.cat([x, torch.ones(3, 4)]),
    'host scalar in a product of vectors': lambda x: torch.dot(x[0, :1].squeeze(0)[None], torch.ones(1)),
    'index of the host': lambda x: x.index_select(0, torch.tensor([1])),
    'host indexed by the device': lambda x: torch.ones(3)[x[0].long().clamp(max=2)],
    'device scalar beside the host': lambda x: torch.ones(3) * x.sum(),
    'module': lambda x: nn.Linear(4, 2)(x),
    'numpy': lambda x: x.numpy(),
    'made by the host': lambda x: x + torch.from_numpy(torch.ones(3, 4).numpy()),
    'other device': lambda x: x + torch.ones(3, 4, device='cuda:1'),
    'backward': lambda x: _Mixing.apply(x.clone().requires_grad_()).sum().backward(),
}  # fmt: skip
SYNCS: dict[str, Callable[[Tensor], Any]] = {
    'item': lambda x: x[0, 0].item(),
    'float': lambda x: float(x.sum()),
    'bool': lambda x: bool((x > 0).all()),
    'tolist': lambda x: x.tolist(),
    'nonzero': lambda x: x.nonzero(),
    'mask': lambda x: x[x > 2],
    'assigned by a mask': lambda x: x.__setitem__(x > 2, x[:1, :1].expand(3, 3).flatten()),
    'repeat_interleave': lambda x: x.repeat_interleave(x[0].long().clamp(max=2)[:3], 0),
    'unique': lambda x: x.unique(),
    'equal': lambda x: torch.equal(x, x),
    'bincount': lambda x: torch.bincount(x[0].long(), minlength=4),
    'eigh': lambda x: torch.linalg.eigh(x.t() @ x),
    'product with a sparse matrix': lambda x: sparse(x, False) @ x,
    'sparse.mm': lambda x: torch.sparse.mm(sparse(x, False), x),
    'print': lambda x: str(x),
    'synchronize': lambda x: torch.cuda.synchronize(),
    'backward': lambda x: _Asking.apply(x.clone().requires_grad_()).sum().backward(),
}
COPIES: dict[str, Callable[[Tensor], Any]] = {
    'to host': lambda x: x.to('cpu'),
    'cpu': lambda x: x.cpu(),
    'to device': lambda x: torch.ones(3).to(x.device),
    'cuda': lambda x: torch.ones(3).cuda(),
    'like another': lambda x: torch.ones(3).to(x),
    'of a list': lambda x: torch.tensor([1.0, 2.0], device='cuda'),
    'new of a list': lambda x: x.new_tensor([1.0]),
    'into a tensor of the host': lambda x: torch.empty(3, 4).copy_(x),
    'assigned': lambda x: torch.empty(3, 4).__setitem__(slice(None), x),
    'indexed by a list': lambda x: x[[0, 1]],
    'module': lambda x: nn.Linear(2, 2).to('cuda'),
}
FREE: dict[str, Callable[[Tensor], Any]] = {
    'host scalar': lambda x: x * torch.tensor(2.0) + 1,
    'to where it is': lambda x: x.to('cuda').to(x),
    'other dtype': lambda x: x.double().to(torch.float16),
    'made there': lambda x: x + torch.zeros(4, device='cuda') + torch.arange(4, device=x.device),
    'like it': lambda x: x + torch.zeros_like(x) + x.new_ones(4),
    'filled by a mask': lambda x: x.masked_fill_(x > 2, 1.0).__setitem__(x > 0, 2.0),
    'indexed there': lambda x: x[:, torch.arange(2, device='cuda')],
    'repeated': lambda x: x.repeat_interleave(2, 0),
    'checked': lambda x: require((x >= 0).all(), 'x', str),
    'product with a coalesced matrix': lambda x: torch.sparse.mm(sparse(x, True), sparse(x, True) @ x),
    'backward': lambda x: nn.functional.layer_norm(x.clone().requires_grad_(), (4,)).sum().backward(),
    'gather': lambda x: x.requires_grad_().index_select(0, x.new_zeros(2).long()).sum().backward(),
}  # fmt: skip


def sparse(x: Tensor, coalesced: bool) -> Tensor:
    """A matrix (3, 3) of one entry, on the device of x."""
    place = x.new_zeros(2, 1).long()
    options = dict(check_invariants=False, is_coalesced=coalesced)
    return torch.sparse_coo_tensor(place, x[1, :1], (3, 3), **options)


class _Mixing(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 1

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * torch.ones(3, 4)


class _Asking(_Mixing):
    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        assert grads[0].is_cuda
        return grads[0] * float(grads[0].sum())


@pytest.mark.parametrize('name', MIXES)
def test_a_mix_of_devices_is_an_error(name: str, x: Tensor, cuda: SimulatedCuda) -> None:
    cuda.devices = 2
    with pytest.raises((MixedDevicesError, TypeError)):
        MIXES[name](x)
    assert cuda.found('mix')


@pytest.mark.parametrize('name', SYNCS)
def test_waiting_for_the_device_is_noted(name: str, x: Tensor, cuda: SimulatedCuda) -> None:
    SYNCS[name](x)
    assert cuda.found('sync')


@pytest.mark.parametrize('name', COPIES)
def test_copies_between_host_and_device_are_noted(
    name: str, x: Tensor, cuda: SimulatedCuda
) -> None:
    COPIES[name](x)
    assert cuda.found('copy')


@pytest.mark.parametrize('name', FREE)
def test_what_costs_nothing_is_not_noted(name: str, x: Tensor, cuda: SimulatedCuda) -> None:
    FREE[name](x)
    assert cuda.found('mix', 'sync', 'copy') == []


def test_a_copy_from_pinned_memory_can_be_left_to_itself(cuda: SimulatedCuda) -> None:
    pinned = torch.ones(3).pin_memory()
    for tensor, non_blocking in ((pinned, True), (pinned, False), (torch.ones(3), True)):
        tensor.to('cuda', non_blocking=non_blocking)
    copies = [event.what for event in cuda.found('copy')]
    assert copies == ['cpu to cuda:0, not waited for', *2 * ['cpu to cuda:0']]


def test_places_are_those_of_a_device(x: Tensor, cuda: SimulatedCuda) -> None:
    on_device = [x, x[1], x.detach(), x.t(), copy.deepcopy(x), x.double(), x.to_sparse(), x.cuda()]
    on_device += [nn.Linear(2, 2).cuda().weight, torch.ones(3).type_as(x)]
    for tensor in on_device:
        assert (tensor.device, tensor.is_cuda) == (torch.device('cuda', 0), True)
        assert tensor.get_device() == 0
    on_host = [torch.ones(2), x.cpu(), x.to('cpu'), torch.zeros_like(x, device='cpu')]
    for tensor in on_host:
        assert (tensor.device, tensor.is_cuda) == (torch.device('cpu'), False)
    x.cpu().zero_()
    assert x.sum() == 66  # another tensor


def test_a_place_is_forgotten_with_its_tensor(cuda: SimulatedCuda) -> None:
    for _ in range(2000):
        torch.ones(1000, device='cuda')
        assert torch.ones(1000).device.type == 'cpu'


def test_an_event_says_where_in_the_package_it_came_from(x: Tensor, cuda: SimulatedCuda) -> None:
    from mmkdlayer.fitting.sampling import vector_hashes

    vector_hashes(x, 0)
    (event,) = {event.where.split(':')[0] for event in cuda.found('copy')}
    assert event.startswith('fitting/')


def test_nothing_stays_when_the_simulation_ends() -> None:
    if torch.cuda.is_available():
        pytest.skip('there is a GPU')
    with SimulatedCuda():
        x = torch.ones(3, device='cuda')
        assert x.is_cuda
        assert torch.cuda.is_available()
    assert not x.is_cuda
    assert not torch.cuda.is_available()
