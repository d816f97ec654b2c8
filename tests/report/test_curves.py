"""Curves of a training's log, also of one that was resumed and of lines that were cut off."""

from __future__ import annotations

import json
from pathlib import Path

from mmkdlayer.report.curves import curves_view, read_scalars


def write(folder: Path, start: str, lines: list, rest: str = '') -> None:
    file = folder / start / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True)
    file.write_text('\n'.join(map(json.dumps, lines)) + '\n' + rest)


def step(number: int, loss: float, **more: float) -> dict:
    return dict(loss=loss, time=0.5, data_time=0.1, iter=number, epoch=1, step=number, **more)


def test_a_resumed_training_is_one_curve(tmp_path: Path) -> None:
    first = [step(1, 4.0), step(2, 3.0), {'accuracy/top1': 50.0, 'step': 1}, step(3, 9.0)]
    write(tmp_path, '20260101_000000', first, '{"loss": 1')
    second = [step(3, 2.0, memory=100.0), {'accuracy/top1': 60.0, 'step': 2}, 7]
    write(tmp_path, '20260102_000000', second)
    train, val = read_scalars(tmp_path)
    assert train['loss'] == [(1.0, 4.0), (2.0, 3.0), (3.0, 2.0)]
    assert val['accuracy/top1'] == [(1.0, 50.0), (2.0, 60.0)]
    view = curves_view(tmp_path)
    assert view is not None
    assert [title for title, _ in view['charts']] == ['Losses', 'accuracy/top1']
    assert dict(view['facts']) == {
        'time of a step': '0.5 s on average',
        'waiting for data': '20 % of it',
        'memory on the GPU': '100 MiB at most',
    }


def test_without_a_log_there_are_none(tmp_path: Path) -> None:
    assert curves_view(tmp_path) is None


def test_scalars_are_grouped_by_their_names(tmp_path: Path) -> None:
    names = {'kd/inter/agreement': 0.5, 'kd/penult/agreement': 0.2, 'distill.loss_inter': 1.0}
    write(tmp_path, '20260101_000000', [step(1, 1.0, **names), step(2, 1.0, **names)])
    view = curves_view(tmp_path)
    assert view is not None
    charts = dict(view['charts'])
    assert list(charts) == ['Losses', 'Agreement with the teacher']
    assert charts['Agreement with the teacher'].count('<polyline') == 2
    assert 'distill.loss_inter' in charts['Losses']
