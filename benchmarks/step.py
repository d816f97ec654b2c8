"""What a training step costs, side by side: time and peak memory.

    python benchmarks/step.py                          # everything, both allocator settings
    python benchmarks/step.py --only layers --shapes a b --repeats 5
    python benchmarks/step.py --only steps --pairs cifar --device cuda

The layer and its loss alone (shapes a to d) are compared with a straightforward implementation and
with the time of their matrix products alone; whole steps with the plain student and with logit KD
through stock mmrazor. Tables of decisions are made up, so nothing is fitted and nothing is downloaded.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from building import (
    ALL_SHAPES,
    KINDS,
    LOGIT_KD,
    PAIRS,
    SHAPES,
    LayerStep,
    Pair,
    Shape,
    TrainingStep,
    pair_decisions,
)
from measuring import circumstances, interleaved, markdown, peak_allocated
from mmengine.config import Config
from straightforward import StraightforwardLayer, straightforward_loss

from mmkdlayer.engine.allocator import keep_memory
from mmkdlayer.models.ops import product, product_gradients

#: Settings of the allocator on a CPU: what the commands of this project choose, and glibc's own.
ALLOCATORS = dict(keeping=True, glibc=False)


def layer_cases(shape: Shape, device: str) -> dict[str, Callable[[], Any]]:
    """Forward and backward pass of layer and loss, and their matrix products alone."""
    step = LayerStep(shape, device)
    straight = StraightforwardLayer(step.layer)

    def run_straightforward() -> None:
        step.forget()
        scores, output = straight(step.x)
        loss = straightforward_loss(step.decision, scores, step.feature, step.label)
        torch.autograd.backward([loss, output], [None, step.upstream])

    return {
        'straightforward': run_straightforward,
        'reference': lambda: step('reference'),
        'memory-efficient': lambda: step('memory_efficient'),
        'floor': matrix_products(shape, device),
    }


def matrix_products(shape: Shape, device: str) -> Callable[[], None]:
    """The products that nobody can leave out, by the faster library (see products.py).

    Two forward and four backward for the layer's convolutions; one for the distances to the centroids.
    """
    positions = shape.images * shape.side**2
    rows = torch.randn(positions, shape.channels, device=device)
    kernel = torch.randn(shape.templates, shape.channels, device=device)
    back = kernel.t().contiguous()
    wide = torch.randn(positions, shape.templates, device=device)
    widening = 1 if shape.classes else 2

    def run() -> None:
        for _ in range(widening):
            product(rows, kernel)
        product(wide, back)
        product_gradients(rows, wide, back)
        product_gradients(wide, rows, kernel)

    return run


def step_cases(pair: Pair, device: str, kinds: Sequence[str]) -> dict[str, Callable[[], Any]]:
    """One training step of each kind, and of logit KD."""
    decisions = pair_decisions(pair, device)
    return {
        kind: TrainingStep(pair, kind, device, decisions)
        for kind in KINDS
        if kind in (LOGIT_KD, *kinds)
    }


def report(
    title: str, cases: dict[str, Callable[[], Any]], base: str, repeats: int, device: str
) -> None:
    """Time the cases and print their table; ratios are to the base."""
    seconds = interleaved(cases, repeats, device)
    peaks = {name: peak_allocated(case, device) for name, case in cases.items()}
    rows = [
        (
            name,
            f'{seconds[name] * 1000:.0f}',
            f'{seconds[name] / seconds[base]:.2f}',
            f'{peaks[name] / 2**20:.0f}' if name != 'floor' else '',
            f'{peaks[name] / peaks[base]:.2f}' if name != 'floor' else '',
        )
        for name in cases
    ]
    header = (title, 'ms', f'of {base}', 'peak MiB', f'of {base}')
    print(f'\n{markdown(header, rows)}', flush=True)


def main() -> None:
    """Run the parts that are asked for; on a CPU once for each setting of the allocator."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', choices=('layers', 'steps'), help='default: both')
    parser.add_argument(
        '--shapes', nargs='+', choices=sorted(ALL_SHAPES), default=sorted(SHAPES), help='of layers'
    )
    parser.add_argument('--pairs', nargs='+', choices=sorted(PAIRS), default=sorted(PAIRS))
    parser.add_argument('--kinds', nargs='+', choices=KINDS, default=KINDS, help='of steps')
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--allocator', choices=('both', *ALLOCATORS), default='both')
    options = parser.parse_args()
    child = os.environ.get('STEP_CHILD')
    if options.device == 'cpu' and child is None:
        print(circumstances(), flush=True)
        for name in ALLOCATORS:
            if options.allocator in ('both', name):
                print(f'\n## Allocator: {name}', flush=True)
                environment = {**os.environ, 'STEP_CHILD': name}
                subprocess.run([sys.executable, *sys.argv], env=environment, check=True)
        return
    if child is None:
        print(circumstances(), flush=True)
    else:
        keep_memory(Config(dict(env_cfg=dict(keep_memory=ALLOCATORS[child]))))
    torch.manual_seed(0)
    for name in options.shapes if options.only != 'steps' else ():
        shape = ALL_SHAPES[name]
        images, channels, side, templates, _ = shape
        title = f'{name}: N {images}, C {channels}, {side}x{side}, K {templates}'
        cases = layer_cases(shape, options.device)
        report(title, cases, 'straightforward', options.repeats, options.device)
    for name in options.pairs if options.only != 'layers' else ():
        pair = PAIRS[name]
        title = f'{pair.config}, batch {pair.batch}, {pair.side}x{pair.side}'
        cases = step_cases(pair, options.device, options.kinds)
        report(title, cases, LOGIT_KD, options.repeats, options.device)


if __name__ == '__main__':
    main()
