from __future__ import annotations

import json
from pathlib import Path

from studying.curves import peak_memory, progress, read_curves, step_seconds, steps_done


def write(folder: Path, start: str, lines: list[dict], end: str = '') -> None:
    path = folder / start / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(map(json.dumps, lines)) + end)


def step(number: int, epoch: int, loss: float, time: float = 0.1) -> dict:
    return dict(
        loss=loss, time=time, lr=0.1, epoch=epoch, iter=number, step=number, memory=100 + number
    )


def test_a_resumed_training_replaces_what_was_lost(tmp_path: Path) -> None:
    assert (read_curves(tmp_path), step_seconds(tmp_path), steps_done(tmp_path)) == ({}, None, 0)
    first = [
        step(1, 1, 4.0),
        step(2, 1, 2.0, 0.2),
        {'accuracy/top1': 10.0, 'step': 1},
        step(3, 2, 9.0),
    ]
    write(tmp_path, '20260101_000000', first, '\n{"loss": 1.')
    assert progress(tmp_path) == 1
    second = [step(3, 2, 1.5, 0.3), step(4, 2, 0.5, 0.4), {'accuracy/top1': 20.0, 'step': 2}]
    write(tmp_path, '20260101_000100', second)
    curves = read_curves(tmp_path)
    assert curves['loss'] == [[1, 3.0], [2, 1.0]]
    assert curves['accuracy/top1'] == [[1, 10.0], [2, 20.0]]
    assert set(curves) == {'loss', 'lr', 'accuracy/top1'}
    assert (steps_done(tmp_path), step_seconds(tmp_path), progress(tmp_path)) == (4, 0.25, 2)
    assert peak_memory(tmp_path) == 104
