"""Each benchmark runs, in its smallest form: what it measures is no test's affair."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ('command', 'rows'),
    [
        (
            'step.py --only layers --shapes a --repeats 1 --allocator glibc',
            ['| memory-efficient'],
        ),
        (
            'step.py --only steps --pairs cifar --kinds letKD-2 --repeats 1 --allocator glibc',
            ['| letKD-2 |'],
        ),
        (
            'inference.py --networks rn20 --batches 1 --repeats 1 --no-onnx --processor-time',
            ['folded'],
        ),
        (
            'mixing.py --losses L2Loss SDDLoss --batch 2 --repeats 1',
            ['L2Loss', 'SDDLoss'],
        ),
        ('stored_files.py --images 300 --reads 200', ['| npy, pread |', '| 100 |']),
        (
            'stored.py --pairs cifar --batch 8 --images 32 --steps 3 --warmup 1 --rounds 1',
            ['| live teacher |', '| stored decisions |', '| random targets (the floor) | '],
        ),
    ],
)
def test_a_benchmark_prints_its_table(command: str, rows: list[str]) -> None:
    script, *options = command.split()
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', str(ROOT / 'benchmarks' / script), *options],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert [row for row in rows if row not in done.stdout] == []
