"""What CUDA refuses under deterministic algorithms is noticed on a simulated device."""

from __future__ import annotations

from typing import Any, Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from simulated_cuda.determinism import BY_NAME, documented
from simulated_cuda.device import SimulatedCuda


def backward(function: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    def run(x: Tensor) -> None:
        function(x.requires_grad_()).sum().backward()

    return run


REFUSED: dict[str, Callable[[Tensor], Any]] = {
    'running sum': lambda x: x.cumsum(1),
    'running sum of fractions of integers': lambda x: x.long().cumsum(1, dtype=torch.float32),
    'weighted counts': lambda x: x.flatten().long().bincount(weights=x.flatten()),
    'adaptive pooling': backward(lambda x: F.adaptive_avg_pool2d(x, 2)),
    'interpolation': backward(lambda x: F.interpolate(x, scale_factor=2, mode='bilinear')),
    'reflection': backward(lambda x: F.pad(x, (1, 1, 1, 1), mode='reflect')),
    'cross entropy of maps': lambda x: F.cross_entropy(x, x[:, 0].long()),
    'grid sample': backward(lambda x: F.grid_sample(x, x[..., :2], align_corners=False)),
    'median': lambda x: x.median(1),
    'kth value': lambda x: x.kthvalue(1),
    'histogram': lambda x: x.histc(3),
    'put': lambda x: x.clone().put_(x[0, 0, 0].long(), x[0, 0, 0].exp()),
    'product': lambda x: x.flatten().scatter_reduce(0, x.flatten().long(), x.flatten(), 'prod'),
}
ACCEPTED: dict[str, Callable[[Tensor], Any]] = {
    'running sum of integers': lambda x: x.long().cumsum(1),
    'counts': lambda x: x.flatten().long().bincount(),
    'global pooling': backward(lambda x: F.adaptive_avg_pool2d(x, 1)),
    'average pooling': backward(lambda x: F.avg_pool2d(x, 2)),
    'nearest': backward(lambda x: F.interpolate(x, scale_factor=2)),
    'cross entropy': lambda x: F.cross_entropy(x[..., 0, 0], x[:, 0, 0, 0].long()),
    'sum by index': lambda x: x.flatten().index_add(0, x.flatten().long(), x.exp().flatten()),
    'sum by scattering': lambda x: x.flatten().scatter_add(
        0, x.flatten().long(), x.exp().flatten()
    ),
    'the k largest': lambda x: x.topk(2),
}


@pytest.fixture
def x() -> Tensor:
    return torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('name', REFUSED)
def test_what_cuda_refuses(name: str, x: Tensor, cuda: SimulatedCuda) -> None:
    REFUSED[name](x.to('cuda'))
    assert len(cuda.refused) == 1
    cuda.refused.clear()


@pytest.mark.parametrize('name', ACCEPTED)
def test_what_cuda_accepts(name: str, x: Tensor, cuda: SimulatedCuda) -> None:
    ACCEPTED[name](x.to('cuda'))
    assert cuda.refused == set()


def test_the_list_has_all_that_torch_documents() -> None:
    assert documented() - set(BY_NAME) == set()
    assert len(documented()) > 20
