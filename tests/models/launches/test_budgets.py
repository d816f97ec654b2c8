"""What layer and loss ask of a GPU stays within budgets, by the counts of benchmarks/launches.py."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch
from simulated_cuda.device import skip_with_old_torch

BENCHMARKS = Path(__file__).resolve().parents[3] / 'benchmarks'


@pytest.fixture(scope='module')
def launches() -> Iterator[ModuleType]:
    skip_with_old_torch()
    names = {path.stem for path in BENCHMARKS.glob('*.py')}
    before = {name: sys.modules.pop(name) for name in names & set(sys.modules)}
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import launches as module

        yield module
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)


@pytest.mark.parametrize(
    ('name', 'most_launches', 'most_held', 'most_peak'),
    [
        ('a', 120, 20e6, 62e6),
        ('b', 120, 145e6, 290e6),
        ('c', 120, 65e6, 290e6),
        ('d', 120, 75e6, 170e6),
        ('a256', 120, 70e6, 240e6),
        ('b256', 195, 560e6, 770e6),
        ('c256', 220, 500e6, 1.21e9),
        ('d256', 195, 530e6, 770e6),
    ],
)
def test_budgets(
    launches: ModuleType, name: str, most_launches: int, most_held: float, most_peak: float
) -> None:
    """Memory is beyond that of the inputs, which are 85 MB in c256."""
    for dtype, extra in ((torch.float32, 0), (torch.float16, 4)):  # casts of the map and back
        cost = launches.count(launches.ALL_SHAPES[name], dtype=dtype)
        assert cost.launches <= most_launches + extra, cost.ops
        assert cost.held <= most_held
        assert cost.peak <= most_peak


@pytest.mark.skipif(not find_spec('triton'), reason='needs triton')
@pytest.mark.parametrize(('name', 'most_launches'), [('a', 96), ('c256', 150), ('d256', 126)])
def test_budgets_with_triton(launches: ModuleType, name: str, most_launches: int) -> None:
    """Each kernel is called as on a GPU, but for its start; memory is that of the plain way."""
    shape = launches.ALL_SHAPES[name]
    cost, plain = launches.count(shape, 'triton'), launches.count(shape)
    assert cost.launches <= most_launches, cost.ops
    assert {'assignments', 'divergence_gradients'} <= set(cost.ops)
    assert cost.held <= 1.01 * plain.held and cost.peak <= 1.01 * plain.peak


def test_launches_do_not_grow_with_the_batch(launches: ModuleType) -> None:
    shape = launches.ALL_SHAPES['c']
    large, larger = (launches.count(shape._replace(images=n)).launches for n in (512, 4096))
    assert large == larger


def test_what_is_counted(launches: ModuleType) -> None:
    """Views and allocations are free; memory is counted until it is given back."""
    given = torch.empty(10, device='meta')
    with launches.says_cuda(), launches.Counting([given]) as counting:
        assert given.device.type == 'cuda' and given.is_cuda
        doubled = given.view(2, 5) * 2
        assert counting.live == 40
        made = torch.empty(5, device=given.device)
        more = doubled[0].add_(made) + 1
        assert counting.live == counting.peak == 80
        del doubled, made, more
        assert counting.live == 0
    assert counting.ops == dict(mul=1, add_=1, add=1)
    assert given.device.type == 'meta'
