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
import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from measuring import circumstances, interleaved, markdown, peak_allocated
from straightforward import StraightforwardLayer, straightforward_loss
from torch import Tensor

from mmkdlayer.models import (
    CentroidDecision,
    KDLayerConnector,
    SubclassDecision,
    TeacherDecision,
    TeacherDecisionLoss,
)
from mmkdlayer.models.ops import product, product_gradients

ROOT = Path(__file__).resolve().parents[1]
#: Memory that glibc keeps instead of asking the system for it again and again.
KEEPING = dict(MALLOC_MMAP_MAX_='0', MALLOC_TRIM_THRESHOLD_='100000000000')


class Shape(NamedTuple):
    """Images, channels of student and teacher, side of the map, templates, classes (0: centroids)."""

    images: int
    channels: int
    side: int
    templates: int
    classes: int = 0


SHAPES = dict(
    a=Shape(64, 64, 8, 800, 100),
    b=Shape(64, 64, 8, 4096),
    c=Shape(32, 512, 7, 8000, 1000),
    d=Shape(32, 512, 7, 4096),
)
PAIRS = dict(
    cifar=('resnet56_resnet20_cifar100', 64, 32, 100),
    imagenet=('resnet34_resnet18_in1k', 16, 224, 1000),
)


def make_decision(templates: int, channels: int, classes: int, device: str) -> TeacherDecision:
    """A decision with made-up tables; the table of sub-classes is dense, the slowest case."""
    if not classes:
        # Centroids as k-means leaves them behind a ReLU: not around the origin, some apart.
        return CentroidDecision.from_tables(torch.rand(templates, channels, device=device))
    components = min(60, channels)
    table = torch.rand(templates, templates, device=device)
    return SubclassDecision.from_tables(
        torch.randn(components, channels, device=device) / channels**0.5,
        torch.randn(components, device=device),
        torch.randn(templates, components, device=device),
        table.div_(table.sum(1, keepdim=True)),
        classes,
    )


def layer_cases(shape: Shape, device: str) -> dict[str, Callable[[], Any]]:
    """Forward and backward pass of layer and loss, and their matrix products alone."""
    images, channels, side, templates, classes = shape
    decision = make_decision(templates, channels, classes, device)
    layer = KDLayerConnector(channels, templates).to(device)
    x = torch.randn(images, channels, side, side, device=device, requires_grad=True)
    feature = torch.rand(images, channels, side, side, device=device)
    label = torch.arange(images, device=device) % max(1, classes)
    upstream = torch.randn_like(x) / x.numel()
    straight = StraightforwardLayer(layer)

    def forget() -> None:
        x.grad = None
        layer.zero_grad(set_to_none=True)

    def run(implementation: str) -> None:
        forget()
        layer.implementation = implementation
        loss = TeacherDecisionLoss(decision, implementation=implementation)
        recorded: list[Tensor] = []
        handle = layer.templates.register_forward_hook(lambda m, a, out: recorded.append(out))
        output = layer(x)
        handle.remove()
        torch.autograd.backward([loss(recorded.pop(), feature, label), output], [None, upstream])

    def run_straightforward() -> None:
        forget()
        scores, output = straight(x)
        loss = straightforward_loss(decision, scores, feature, label)
        torch.autograd.backward([loss, output], [None, upstream])

    return {
        'straightforward': run_straightforward,
        'reference': lambda: run('reference'),
        'memory-efficient': lambda: run('memory_efficient'),
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


def build_model(pair: str, kind: str, decisions: dict[str, TeacherDecision], device: str) -> Any:
    """A model in training mode, and its optimiser, from the config of a pair."""
    import mmrazor.models  # noqa: F401
    from mmengine.config import Config
    from mmengine.optim import OptimWrapper
    from mmengine.registry import MODELS

    suffix = '_letkd1' if kind == 'letKD-1' else ''
    file = ROOT / 'configs' / 'kdlayer' / f'{PAIRS[pair][0]}{suffix}.py'
    config = copy.deepcopy(Config.fromfile(str(file)).model)
    config.pop('teacher_ckpt', None)
    if kind == 'plain student':
        config = config['architecture']
    elif kind == 'logit KD (stock mmrazor)':
        fc = dict(type='ModuleOutputs', source='head.fc')
        config['distiller'] = dict(
            type='ConfigurableDistiller',
            student_recorders=dict(fc=fc),
            teacher_recorders=dict(fc=fc),
            distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=4, loss_weight=1)),
            loss_forward_mappings=dict(
                loss_kl=dict(
                    preds_S=dict(from_student=True, recorder='fc'),
                    preds_T=dict(from_student=False, recorder='fc'),
                )
            ),
        )
    elif kind.endswith('reference'):
        for layer in config.distiller.kd_layers.values():
            layer['layer'] = dict(implementation='reference')
    torch.manual_seed(0)
    model = MODELS.build(config).to(device)
    model.train()
    for name, loss in getattr(getattr(model, 'distiller', None), 'distill_losses', {}).items():
        if name.removeprefix('loss_') in decisions:
            loss.decision.copy_from(decisions[name.removeprefix('loss_')])
            loss.implementation = 'reference' if kind.endswith('reference') else loss.implementation
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return model, OptimWrapper(torch.optim.SGD(parameters, lr=0.01, momentum=0.9, nesterov=True))


def step_cases(pair: str, device: str) -> dict[str, Callable[[], Any]]:
    """One training step of each kind."""
    from mmpretrain.structures import DataSample

    _, batch, side, classes = PAIRS[pair]
    channels = 64 if pair == 'cifar' else 512
    decisions = dict(
        inter=make_decision(8 * classes, channels, classes, device),
        penult=make_decision(4096, channels, 0, device),
    )
    inputs = torch.randn(batch, 3, side, side, device=device)
    samples = [DataSample().set_gt_label(i % classes).to(device) for i in range(batch)]

    def case(kind: str) -> Callable[[], None]:
        model, optimizer = build_model(pair, kind, decisions, device)

        def run() -> None:
            loss, _ = model.parse_losses(model(inputs, samples, mode='loss'))
            optimizer.update_params(loss)

        return run

    kinds = (
        'plain student',
        'logit KD (stock mmrazor)',
        'letKD-1',
        'letKD-2, reference',
        'letKD-2',
    )
    return {kind: case(kind) for kind in kinds}


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
    parser.add_argument('--shapes', nargs='+', choices=sorted(SHAPES), default=sorted(SHAPES))
    parser.add_argument('--pairs', nargs='+', choices=sorted(PAIRS), default=sorted(PAIRS))
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--allocator', choices=('both', 'default', 'keeping'), default='both')
    options = parser.parse_args()
    if (
        options.device == 'cpu'
        and options.allocator != 'default'
        and 'STEP_CHILD' not in os.environ
    ):
        print(circumstances(), flush=True)
        for name in ('default', 'keeping'):
            if options.allocator in ('both', name):
                settings = KEEPING if name == 'keeping' else {}
                note = ' '.join(f'{key}={value}' for key, value in settings.items())
                print(f'\n## Allocator: {name} {note}', flush=True)
                environment = {**os.environ, **settings, 'STEP_CHILD': '1'}
                subprocess.run([sys.executable, *sys.argv], env=environment, check=True)
        return
    if 'STEP_CHILD' not in os.environ:
        print(circumstances(), flush=True)
    torch.manual_seed(0)
    for name in options.shapes if options.only != 'steps' else ():
        shape = SHAPES[name]
        images, channels, side, templates, _ = shape
        title = f'{name}: N {images}, C {channels}, {side}x{side}, K {templates}'
        cases = layer_cases(shape, options.device)
        report(title, cases, 'straightforward', options.repeats, options.device)
    for pair in options.pairs if options.only != 'layers' else ():
        config, batch, side, _ = PAIRS[pair]
        title = f'{config}, batch {batch}, {side}x{side}'
        cases = step_cases(pair, options.device)
        report(title, cases, 'logit KD (stock mmrazor)', options.repeats, options.device)


if __name__ == '__main__':
    main()
