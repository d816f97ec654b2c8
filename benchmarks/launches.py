"""What a KD layer and its loss ask of a GPU, counted without one: kernels, memory held and at its peak.

    python benchmarks/launches.py                    # all shapes, both implementations
    python benchmarks/launches.py --shapes a c256 --ops

Tensors are without values, on torch's meta device, and say that they are on ``cuda:0``: so the code
takes the way that it takes there, forward and backward. Counted are the operations that start a kernel
(one each, though some start two) and the memory of their results, beyond that of the inputs. Times can't
be told.
"""

from __future__ import annotations

import argparse
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, NamedTuple
from unittest import mock

import torch
from building import ALL_SHAPES, Shape
from measuring import markdown
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mmkdlayer.models import (
    CentroidDecision,
    KDLayerConnector,
    SubclassDecision,
    TeacherDecision,
    TeacherDecisionLoss,
)
from mmkdlayer.models.decisions import subclass_decision
from mmkdlayer.models.decisions.table_targets import DenseRows

CUDA, META = torch.device('cuda:0'), torch.device('meta')
QUESTIONS: Any = [getattr(Tensor, name).__get__ for name in ('device', 'is_cuda')]
#: Operations that start no kernel, besides views.
FREE = {
    'empty', 'empty_like', 'empty_strided', 'new_empty', 'new_empty_strided', 'detach', '_unsafe_view',
    'lift_fresh', 'resize_', 'set_', '_reshape_alias', 'promote_types',
}  # fmt: skip


class Cost(NamedTuple):
    """What one forward and backward pass takes.

    Attributes:
        launches: Kernels started.
        held: Bytes that are held between the passes, the output among them.
        peak: Most bytes that are held at a time.
        ops: How often each operation is called.
    """

    launches: int
    held: int
    peak: int
    ops: Counter[str]


class SaysCuda(TorchFunctionMode):
    """Tensors on the meta device say that they are on ``cuda:0``, and those for it are made there."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func in QUESTIONS:
            answer = func(*args)
            if isinstance(answer, bool):
                return args[0].is_meta
            return CUDA if answer.type == 'meta' else answer
        args = tuple(META if value == CUDA else value for value in args) if args else args
        kwargs = {key: META if value == CUDA else value for key, value in (kwargs or {}).items()}
        return func(*args, **kwargs)


class Counting(TorchDispatchMode):
    """Counts operations, and the bytes of the storages that live, but for those of the inputs."""

    def __init__(self, inputs: list[Tensor]) -> None:
        super().__init__()
        self.ops: Counter[str] = Counter()
        self.live = self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in inputs}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        aliases = [part.alias_info for part in func._schema.arguments if part.alias_info]
        is_view = any(not alias.is_write for alias in aliases)
        if not is_view and name not in FREE:
            self.ops[name] += 1
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor):
                self.note(tensor)
        return result

    def note(self, tensor: Tensor) -> None:
        """Count the bytes of a tensor's storage as long as it lives."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


@contextmanager
def says_cuda() -> Iterator[None]:
    """Inside, also in the Python code of backward passes, tensors say that they are on ``cuda:0``."""
    apply = BackwardCFunction.apply

    def answered(self: Any, *args: Any) -> Any:
        with SaysCuda():
            return apply(self, *args)

    with mock.patch.object(BackwardCFunction, 'apply', answered), SaysCuda():
        yield


@contextmanager
def counts_triton(ops: Counter[str]) -> Iterator[None]:
    """Inside, Triton's kernels are counted instead of started, where there is a Triton."""
    if not find_spec('triton'):
        yield
        return
    from triton import JITFunction

    def run(kernel: Any, *args: Any, **options: Any) -> None:
        ops[kernel.fn.__name__] += 1

    with mock.patch.object(JITFunction, 'run', run):
        yield


def make_decision(shape: Shape) -> TeacherDecision:
    """A fitted decision without values, prepared for the device; a table of sub-classes is dense."""
    _, channels, _, templates, classes = shape
    decision: TeacherDecision
    if not classes:
        decision = CentroidDecision(templates)
        sizes: dict[str, tuple[int, ...]] = dict(centroids=(templates, channels))
    else:
        components = min(60, channels)
        decision = SubclassDecision(classes, templates // classes, components)
        sizes = dict(
            projection=(components, channels),
            offset=(components,),
            centers=(templates, components),
            decisions=(templates, templates),
        )
    tables = {name: torch.empty(size, device=META) for name, size in sizes.items()}
    decision._tables.update(tables)
    rows = (
        dict(rows=DenseRows(tables['decisions']), entropies=tables['decisions'][0])
        if classes
        else {}
    )
    # Without values, it can't be seen whether a table is dense.
    with mock.patch.object(subclass_decision, 'prepare_rows', lambda table: rows):
        prepared = decision.prepare(tables)
    decision.prepared_for = lambda like: prepared  # type: ignore[method-assign]
    return decision


def count(
    shape: Shape, implementation: str = 'memory_efficient', dtype: torch.dtype = torch.float32
) -> Cost:
    """One forward and backward pass of layer and loss, with hard labels where there are classes.

    Args:
        shape: Sizes of the batch.
        implementation: Of layer and loss.
        dtype: Of the student's map; ``torch.float16`` is what autocast gives.
    """
    images, channels, side, templates, classes = shape
    size = (images, channels, side, side)
    x, feature, upstream = (
        torch.empty(size, dtype=dtype, device=META).to(memory_format=torch.channels_last)
        for _ in range(3)
    )
    feature = feature.float()
    label = torch.empty(images, dtype=torch.int64, device=META) if classes else None
    x.requires_grad_()
    decision = make_decision(shape)
    layer = KDLayerConnector(channels, templates, implementation=implementation).to(META)
    loss = TeacherDecisionLoss(decision, implementation=implementation)
    recorded: list[Tensor] = []
    layer.templates.register_forward_hook(lambda module, args, out: recorded.append(out))
    inputs = [x, feature, upstream, *layer.parameters(), *layer.buffers()]
    inputs += [] if label is None else [label]
    with says_cuda(), Counting(inputs) as counting, counts_triton(counting.ops):
        output = layer(x)
        value = loss(recorded.pop(), feature, label)
        held = counting.live
        torch.autograd.backward([value, output], [None, upstream])
    return Cost(sum(counting.ops.values()), held, counting.peak, counting.ops)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--shapes', nargs='+', choices=sorted(ALL_SHAPES), default=sorted(ALL_SHAPES)
    )
    parser.add_argument('--ops', action='store_true', help='list the operations of each shape too')
    options = parser.parse_args()
    implementations = [
        'reference',
        'memory_efficient',
        *(['triton'] if find_spec('triton') else []),
    ]
    rows = []
    details = []
    for name in options.shapes:
        for implementation in implementations:
            for dtype in (torch.float32, torch.float16):
                cost = count(ALL_SHAPES[name], implementation, dtype)
                kind = str(dtype).removeprefix('torch.')
                rows.append(
                    (
                        name, *ALL_SHAPES[name][:4], implementation, kind, cost.launches,
                        f'{cost.held / 1e6:.0f}', f'{cost.peak / 1e6:.0f}',
                    )
                )  # fmt: skip
                details.append(f'{name}, {implementation}, {kind}: {cost.ops.most_common()}')
    header = ('shape', 'N', 'C', 'side', 'K', 'implementation', 'map', 'launches', 'held MB')
    print(markdown((*header, 'peak MB'), rows))
    if options.ops:
        print('\n'.join(details))


if __name__ == '__main__':
    main()
