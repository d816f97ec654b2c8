#!/usr/bin/env python
"""What each of mmrazor's distillation losses adds to a step, at the shapes of ResNet-34 -> ResNet-18.

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

import mmkdlayer  # noqa: F401  (makes mmrazor work here)

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
    'OFDLoss': ('map', CONV, None, {}),
    'PKDLoss': ('map', CONV, None, {}),
    'WSLD': ('labelled logits', None, None, dict(num_classes=CLASSES)),
}
SHAPES = {'map': (CHANNELS, 7, 7), 'gap': (CHANNELS,), 'logits': (CLASSES,)}


def make_pass(name: str, batch: int) -> Any:
    """A function that runs the loss forward and backward on random features."""
    import mmrazor.models  # noqa: F401
    from mmengine.structures import BaseDataElement
    from mmrazor.registry import MODELS

    torch.manual_seed(0)
    reads, ours, theirs, arguments = LOSSES[name]
    shape = (batch, *SHAPES[reads.split()[-1]])
    student, teacher = torch.randn(shape).relu_().requires_grad_(), torch.randn(shape).relu_()
    loss = MODELS.build(dict(type=name, **arguments))
    connectors = [MODELS.build(cfg) if cfg else torch.nn.Identity() for cfg in (ours, theirs)]
    more: tuple = ()
    if reads.startswith('labelled'):
        more = (torch.arange(batch) % CLASSES,)
    if name == 'CRDLoss':
        more = ([BaseDataElement() for _ in range(batch)],)
        for index, sample in enumerate(more[0]):
            sample.set_data(dict(sample_idx=torch.tensor(index)))

    def run() -> None:
        value = loss(connectors[0](student), connectors[1](teacher), *more)
        value.sum().backward()
        student.grad = None
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
