"""What trainings have logged: losses and accuracy of each epoch, time of a step, how far they are."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from mmkdlayer.plain_json import read_json_lines

#: What a line of the log says of its place; all other numbers are measured.
PLACES = ('epoch', 'iter', 'step')
#: Logged, but no part of a curve.
LEFT_OUT = (*PLACES, 'time', 'data_time', 'memory')


def read_scalars(folder: Path) -> list[dict[str, Any]]:
    """The lines that the trainings in a work dir have logged, the later ones in the place of earlier.

    A training that was killed has logged some steps that are trained on again after its checkpoint.
    """
    lines: dict[tuple[bool, int], dict[str, Any]] = {}
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in read_json_lines(path):
            key = 'loss' in line, int(line.get('step', 0))
            lines.pop(key, None)
            lines[key] = line
    return list(lines.values())


def read_curves(folder: Path) -> dict[str, list[list[float]]]:
    """Curves of a training: name to ``[epoch, value]`` pairs; losses as means over the epoch's lines."""
    sums: dict[str, dict[int, list[float]]] = {}
    for line in read_scalars(folder):
        epoch = int(line.get('epoch', line.get('step', 0)))
        for name, value in line.items():
            if name not in LEFT_OUT and isinstance(value, (int, float)):
                sums.setdefault(name, {}).setdefault(epoch, []).append(value)
    return {
        name: [
            [epoch, _rounded(statistics.fmean(found))] for epoch, found in sorted(values.items())
        ]
        for name, values in sums.items()
    }


def _rounded(value: float) -> float:
    return float(f'{value:.5g}')


def step_seconds(folder: Path) -> float | None:
    """Median time of a training step, as logged; None before the first line."""
    times = [line['time'] for line in read_scalars(folder) if 'loss' in line and 'time' in line]
    return _rounded(statistics.median(times)) if times else None


def peak_memory(folder: Path) -> int | None:
    """MiB that torch has allocated on the GPU at most, as logged; None on a CPU."""
    found = [line['memory'] for line in read_scalars(folder) if line.get('memory')]
    return int(max(found)) if found else None


def steps_done(folder: Path) -> int:
    """The last training step that was logged."""
    return max((int(line['step']) for line in read_scalars(folder) if 'loss' in line), default=0)


def pace(folder: Path) -> float | None:
    """Seconds of the steps of an epoch; None before the first epoch has ended."""
    done, step = progress(folder), step_seconds(folder)
    return step * steps_done(folder) / done if done and step else None


def progress(folder: Path) -> float:
    """How far a training is, in epochs (iterations where it has no epochs).

    It follows the log, whose lines are some iterations apart.
    """
    last: dict[str, Any] = {}
    for line in read_scalars(folder):
        if 'loss' in line and line.get('step', 0) >= last.get('step', 0):
            last = line
    if 'epoch' not in last:
        return float(last.get('step', 0))
    whole = [line for line in read_scalars(folder) if 'loss' not in line]
    finished = max((int(line.get('step', 0)) for line in whole), default=0)
    return float(max(finished, last['epoch'] - 1))
