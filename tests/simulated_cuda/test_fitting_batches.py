"""What one batch of a fitting costs on a simulated device: launches, waits and copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mmkdlayer.fitting import CentroidFitter, Fitter, SubclassFitter
from mmkdlayer.fitting.fitter import _CHECK_INTERVAL
from simulated_cuda.device import SimulatedCuda, tensors_in

CLASSES = 4


class Launches(TorchDispatchMode):
    """Counts operations on the device which are no views: kernels that are launched, at least."""

    def __init__(self, cuda: SimulatedCuda) -> None:
        super().__init__()
        self.cuda = cuda
        self.number = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        aliases = [returned.alias_info for returned in func._schema.returns]
        is_view = any(alias is not None and not alias.is_write for alias in aliases)
        on_device = any(self.cuda.place(t).type == 'cuda' for t in tensors_in(args, kwargs))
        self.number += on_device and not is_view
        return func(*args, **(kwargs or {}))


def sampled(**options: Any) -> CentroidFitter:
    return CentroidFitter(9, memory_budget=1 << 17, **options)


#: Fitter, pass, launches at most, copies to the device and from it.
CASES: dict[str, tuple[Callable[[], Fitter], int, int, list[str]]] = {
    'all vectors': (lambda: CentroidFitter(9), 0, 60, ['out', 'out']),
    'sampled vectors': (sampled, 0, 60, ['out', 'in', 'out']),
    'streamed step': (lambda: sampled(streaming_passes=1), 1, 35, []),
    'statistics': (lambda: SubclassFitter(CLASSES, 3, 3), 0, 30, ['in']),
    'projection': (lambda: SubclassFitter(CLASSES, 3, 3), 1, 80, ['in', 'out', 'out']),
}


def make_batch(images: int, device: str) -> tuple[Tensor, Tensor]:
    """Of labels the device has no copy."""
    features = torch.randn(images, 128, 7, 7, generator=torch.Generator().manual_seed(images))
    return features.to(device), torch.arange(images) % CLASSES


@pytest.mark.parametrize('name', CASES)
def test_a_batch_costs_few_launches_and_copies_and_no_wait(name: str, cuda: SimulatedCuda) -> None:
    """Whatever its size: 825 launches came of hashing a large one in parts for a CPU's cache."""
    make, pass_index, budget, copies = CASES[name]
    found = []
    for images in (16, 128):
        fitter = make()
        batch = make_batch(images, 'cuda')
        for earlier in range(pass_index):
            fitter.update(earlier, *batch)
            fitter.finish_pass(earlier)
        for _ in range(2):  # full, where it is a sample
            fitter.update(pass_index, *batch)
        cuda.events.clear()
        with Launches(cuda) as launches:
            fitter.update(pass_index, *batch)
        events = [(event.kind, event.what) for event in cuda.found('mix', 'sync', 'copy')]
        fitter.close()
        ways = {'cuda:0 to cpu': 'out', 'cpu to cuda:0': 'in'}
        assert [(kind, ways[what]) for kind, what in events] == [('copy', way) for way in copies]
        found.append(launches.number)
    assert max(found) <= budget
    assert abs(found[0] - found[1]) <= 2


def test_the_features_are_looked_at_once_in_some_batches(cuda: SimulatedCuda) -> None:
    features, labels = make_batch(4, 'cuda')
    fitter = SubclassFitter(CLASSES, 3, 3)
    waits = []
    for _ in range(2 * _CHECK_INTERVAL):
        fitter.update(0, features, labels)
        waits.append(len(cuda.found('sync')))
    assert waits == ([0] * (_CHECK_INTERVAL - 1) + [1]) * 2
    fitter.close()


@pytest.mark.parametrize('at_the_end', ['finish_pass', 'state'])
def test_values_that_are_not_finite_are_found_at_the_latest_when_they_count(
    at_the_end: str, cuda: SimulatedCuda, tmp_path: Path
) -> None:
    features, labels = make_batch(4, 'cuda')
    fitter = SubclassFitter(CLASSES, 3, 3)
    fitter.update(0, features, labels)
    fitter.update(0, features.clone().index_fill_(0, labels[:1].to('cuda'), torch.nan), labels)
    fitter.update(0, features, labels)
    with pytest.raises(Exception, match='not finite'):
        fitter.finish_pass(0) if at_the_end == 'finish_pass' else fitter.state()
    fitter.close()
