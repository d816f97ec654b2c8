"""Fitting does not depend on the order in which a GPU's atomic additions come."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fitted_tables import tables_of
from simulated_cuda.device import skip_with_old_torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mmkdlayer.fitting import fit_centroids, fit_subclasses
from mmkdlayer.fitting.grouped_kmeans import grouped_kmeans
from mmkdlayer.fitting.kmeans import StreamedStep, kmeans
from mmkdlayer.fitting.numerics import exact_steps, round_to_

AS_ATOMICS = {'aten::index_add_', 'aten::index_add', 'aten::scatter_add_', 'aten::scatter_add'}


class AnyOrder(TorchDispatchMode):
    """Adds in another order each time, where CUDA adds by atomic operations."""

    def __init__(self, seed: int) -> None:
        skip_with_old_torch()
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)
        self.additions = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func._schema.name in AS_ATOMICS:
            total, dim, index, source = args[:4]
            order = torch.randperm(source.shape[dim], generator=self.generator)
            parts = (part.index_select(min(dim, part.dim() - 1), order) for part in (index, source))
            args = (total, dim, *parts, *args[4:])
            self.additions += source.is_floating_point()
        return func(*args, **(kwargs or {}))


def test_the_order_would_count_for_values_that_are_not_rounded() -> None:
    values = torch.randn(10000, 1, generator=torch.Generator().manual_seed(0)).double().exp()
    sums = set()
    for seed in range(5):
        with AnyOrder(seed):
            total = torch.zeros(1, 1, dtype=torch.float64)
            total.index_add_(0, torch.zeros(10000, dtype=torch.int64), values)
        sums.add(float(total))
    assert len(sums) > 1


@pytest.mark.parametrize('kind', ['centroids', 'streamed centroids', 'sub-classes'])
def test_tables_are_the_same_for_any_order(kind: str, maps: Any) -> None:
    def fit() -> dict[str, Tensor]:
        if kind == 'sub-classes':
            return tables_of(fit_subclasses(maps.batches(50), 6, 4))
        options = {} if kind == 'centroids' else dict(memory_budget=60 * 300, streaming_passes=2)
        return tables_of(fit_centroids(maps.batches(50), 20, **options))

    expected = fit()
    for seed in (1, 2):
        with AnyOrder(seed) as mode:
            found = fit()
        assert mode.additions > 3
        for name, table in expected.items():
            assert torch.equal(torch.as_tensor(found[name]), torch.as_tensor(table)), name


def spread(number: int, exponents: int) -> Tensor:
    """Points (n, 5), float32, whose channels hold numbers of that many different exponents."""
    generator = torch.Generator().manual_seed(0)
    powers = torch.randint(-exponents, 1, (number, 5), generator=generator)
    return torch.ldexp(torch.randn(number, 5, generator=generator), powers)


def test_a_streamed_step_is_the_same_for_any_batches() -> None:
    points = spread(3000, 40)
    found = []
    for size in (1, 700, 3000):
        step = StreamedStep(points.abs().topk(10, 0).values, len(points))
        for part in points[torch.randperm(3000)].split(size):
            step.update(part)
        found.append(step.state()['sums'])
    assert all(torch.equal(other, found[0]) for other in found[1:])


def test_centers_between_large_opposite_points_are_the_same_for_any_order() -> None:
    """The large ones cancel: of float64's rounding errors, those of a float32 center are left."""
    large = 1e10 * spread(500, 1)
    points = torch.cat([large, -large, 1 + spread(1000, 10)])
    expected = kmeans(points.clone(), 1)
    for seed in range(3):
        with AnyOrder(seed) as mode:
            assert torch.equal(kmeans(points.clone(), 1), expected)
        assert mode.additions > 0


def test_centers_in_groups_are_the_same_for_any_order() -> None:
    rows, counts = spread(300, 40), torch.tensor([200, 0, 100])
    expected, _ = grouped_kmeans(rows, counts, 3, device=rows.device)
    for seed in range(3):
        with AnyOrder(seed) as mode:
            found, _ = grouped_kmeans(rows, counts, 3, device=rows.device)
        assert torch.equal(found, expected)
        assert mode.additions > 0


@pytest.mark.parametrize('scale', [1e-30, 1.0, 1e30])
@pytest.mark.parametrize('number', [1, 2, 3000, 1 << 22])
def test_steps_are_the_finest_whose_sums_are_exact(number: int, scale: float) -> None:
    largest = scale * torch.tensor([1.0, 0.999, 3.0, 1e-3])
    steps = exact_steps(largest, number)
    assert steps.frexp().mantissa.tolist() == [0.5] * 4  # powers of two
    rounded = round_to_(largest.clone().double(), steps)
    # All of that number, and the bound itself, in units of the step: integers that float64 holds.
    units = (number * rounded.max(rounded) / steps).tolist()
    assert all(unit == int(unit) <= 2**53 for unit in units)
    assert (steps <= (largest.double() * number * 2.0**-51).clamp(min=2.0**-126)).all()
    assert ((rounded - largest.double()).abs() <= steps / 2).all()


def test_a_channel_of_zeros_stays_one() -> None:
    points = torch.tensor([[0.0, 1.5], [0.0, -0.25]])
    steps = exact_steps(points.abs().amax(0), 2)
    assert torch.equal(round_to_(points.clone(), steps), points)
