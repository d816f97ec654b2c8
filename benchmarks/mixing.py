#!/usr/bin/env python
"""What each distillation loss, of mmrazor and of this package, adds to a step.

The shapes are those of ResNet-34 -> ResNet-18 on ImageNet, and for tokens of DeiT-B -> DeiT-Ti.
Measured is the loss with its connectors, forward and backward to the recorded features, apart from the
networks: median time of a pass, and what the first pass adds to the peak of resident memory (Linux).
Each loss has a process of its own.

    python benchmarks/mixing.py                              # prints the table
    python benchmarks/mixing.py --write docs/mixing.md       # fills the last two columns there
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from measuring import circumstances, interleaved, markdown, resident

import mmkdlayer  # makes mmrazor work here

CHANNELS, CLASSES = 512, 1000
CONV = dict(
    type='ConvModuleConnector',
    in_channel=CHANNELS,
    out_channel=CHANNELS,
    norm_cfg=dict(type='BN'),
    act_cfg=None,
)
#: For each loss: what it reads, connector of the student's and of the teacher's, arguments of the loss.
LOSSES: dict[str, tuple[str, Any, Any, dict]] = {
    'ABLoss': ('map', CONV, None, {}),
    'ATLoss': ('map', None, None, {}),
    'AngleWiseRKD': ('gap', None, None, {}),
    'CRDLoss': (
        'gap',
        dict(type='CRDConnector', dim_in=CHANNELS, dim_out=128),
        dict(type='CRDConnector', dim_in=CHANNELS, dim_out=128),
        {},
    ),
    'ChannelWiseDivergence': ('map', CONV, None, {}),
    'CrossEntropyLoss': ('logits', None, None, {}),
    'DISTLoss': ('logits', None, None, {}),
    'DKDLoss': ('labelled logits', None, None, {}),
    'DistanceWiseRKD': ('gap', None, None, {}),
    'FBKDLoss': (
        'map',
        dict(type='FBKDStudentConnector', in_channels=CHANNELS),
        dict(type='FBKDTeacherConnector', in_channels=CHANNELS),
        {},
    ),
    'FTLoss': (
        'map',
        dict(type='Translator', in_channel=CHANNELS, out_channel=CHANNELS // 2),
        dict(type='Paraphraser', in_channel=CHANNELS, out_channel=CHANNELS // 2, phase='train'),
        {},
    ),
    'KDSoftCELoss': ('logits', None, None, {}),
    'KLDivergence': ('logits', None, None, {}),
    'L1Loss': ('map', CONV, None, {}),
    'L2Loss': ('map', CONV, None, {}),
    'MGDLoss': (
        'map',
        dict(type='MGDConnector', student_channels=CHANNELS, teacher_channels=CHANNELS),
        None,
        {},
    ),
    'LogitStandardization': (
        'logits',
        None,
        None,
        dict(loss=dict(type='mmrazor.KLDivergence', tau=2)),
    ),
    'NKDLoss': ('labelled logits', None, None, {}),
    'OFDLoss': ('map', CONV, None, {}),
    'PKDLoss': ('map', CONV, None, {}),
    'ReviewKDLoss': (
        'stages',
        dict(
            type='mmkdlayer.ReviewKDConnector',
            student_channels=(64, 128, 256, CHANNELS),
            teacher_channels=(64, 128, 256, CHANNELS),
        ),
        None,
        {},
    ),
    'SDDLoss': (
        'classified map',
        None,
        None,
        dict(scales=(1, 2)),
    ),
    'ViTKDLoss': ('tokens', None, None, dict(student_channels=192, teacher_channels=768)),
    'WSLD': ('labelled logits', None, None, dict(num_classes=CLASSES)),
    'WTTMLoss': ('logits', None, None, dict(gamma=0.5)),
}
#: Shapes of the student's features and of the teacher's, without images.
SHAPES: dict[str, tuple[Any, Any]] = {
    'map': ([(CHANNELS, 7, 7)],) * 2,
    'gap': ([(CHANNELS,)],) * 2,
    'logits': ([(CLASSES,)],) * 2,
    'stages': ([(64, 56, 56), (128, 28, 28), (256, 14, 14), (CHANNELS, 7, 7)],) * 2,
    'tokens': ([(197, 192)] * 3, [(197, 768)] * 3),
}


def make_pass(name: str, batch: int) -> Any:
    """A function that runs the loss forward and backward on random features."""
    import mmrazor.models  # noqa: F401
    from mmengine.structures import BaseDataElement
    from mmrazor.registry import MODELS

    torch.manual_seed(0)
    reads, ours, theirs, arguments = LOSSES[name]
    student, teacher = (
        [torch.randn(batch, *shape).relu_() for shape in shapes]
        for shapes in SHAPES[reads.split()[-1]]
    )
    for feature in student:
        feature.requires_grad_()
    scope = 'mmkdlayer' if hasattr(mmkdlayer.models.losses, name) else 'mmrazor'
    loss = MODELS.build(dict(type=f'{scope}.{name}', **arguments))
    connectors = [MODELS.build(cfg) if cfg else torch.nn.Identity() for cfg in (ours, theirs)]
    labels = torch.arange(batch) % CLASSES
    weights = [torch.randn(CLASSES, CHANNELS) for _ in range(2)]
    more: tuple = ()
    if reads.startswith('labelled'):
        more = (labels,)
    if reads.startswith('classified'):
        more = (weights[0].requires_grad_(), weights[1], labels)
    if name == 'CRDLoss':
        more = ([BaseDataElement() for _ in range(batch)],)
        for index, sample in enumerate(more[0]):
            sample.set_data(dict(sample_idx=torch.tensor(index)))

    def run() -> None:
        if reads == 'tokens':
            value = loss(*student, *teacher)
        elif reads == 'stages':
            value = loss(connectors[0](student), teacher)
        else:
            value = loss(connectors[0](student[0]), connectors[1](teacher[0]), *more)
        value.sum().backward()
        for feature in (*student, weights[0]):
            feature.grad = None
        for module in (loss, *connectors):
            module.zero_grad(set_to_none=True)

    return run


def measure(name: str, batch: int, repeats: int) -> tuple[float, float]:
    """Milliseconds of a pass and MiB that the first one adds to the peak, in this process."""
    make_pass(name, 4)()  # what libraries load and keep is not the loss's
    run = make_pass(name, batch)
    Path('/proc/self/clear_refs').write_text('5')  # the peak starts from what is resident now
    before = resident('VmHWM')
    run()
    added = (resident('VmHWM') - before) / 2**20
    return 1000 * interleaved({name: run}, repeats)[name], added


def short(value: float) -> str:
    """A number with about two digits."""
    return f'{value:.2f}' if value < 1 else f'{value:.1f}' if value < 10 else f'{value:.0f}'


def fill_in(path: Path, rows: dict[str, tuple[str, str]]) -> None:
    """Write the results into the last two columns of the rows that begin with a loss's name."""
    lines = path.read_text().split('\n')
    for index, line in enumerate(lines):
        match = re.match(r'\| `(\w+)` \|', line)
        if match and match.group(1) in rows:
            cells = line.strip().strip('|').split('|')
            cells[-2:] = [f' {cell} ' for cell in rows[match.group(1)]]
            lines[index] = f'|{"|".join(cells)}|'
        if line.startswith('Measured: '):
            lines[index] = f'Measured: {circumstances()}'
    path.write_text('\n'.join(lines))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--losses', nargs='+', choices=LOSSES, default=list(LOSSES))
    parser.add_argument('--batch', type=int, default=32, help='images in a step')
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--write', type=Path, help='document whose columns are filled')
    parser.add_argument('--one', choices=LOSSES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.batch, args.repeats)))
        return
    rows = {}
    for name in args.losses:
        line = [sys.executable, __file__, '--one', name]
        line += ['--batch', str(args.batch), '--repeats', str(args.repeats)]
        done = subprocess.run(line, check=True, capture_output=True, text=True)
        milliseconds, added = json.loads(done.stdout.strip().splitlines()[-1])
        rows[name] = (short(milliseconds), short(added))
        print(name, *rows[name], flush=True)
    print(circumstances())
    print(markdown(('loss', 'ms', 'MiB'), [(name, *row) for name, row in rows.items()]))
    if args.write:
        fill_in(args.write, rows)


if __name__ == '__main__':
    main()
