"""Section 4 of the page: the curves of a training, from the log of mmengine's LocalVisBackend."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mmkdlayer.plain_json import read_json_lines

from . import charts

Series = dict[str, list[tuple[float, float]]]
#: Charts of training scalars: title, and how the names of their scalars begin.
GROUPS = (
    ('Losses', ('loss', 'student.', 'distill.')),
    ('Learning rate', ('lr', 'base_lr')),
    ('Agreement with the teacher', ('kd/*/agreement',)),
    ('Templates in use (perplexity)', ('kd/*/student_perplexity', 'kd/*/teacher_perplexity')),
    ('Dead templates', ('kd/*/dead_templates',)),
    ('Scales', ('kd/*/template_scale', 'kd/*/semantic_scale')),
)


def read_scalars(work_dir: str | os.PathLike) -> tuple[Series, Series]:
    """The scalars of training by iteration, and of validation by step, of all starts of a training.

    Where a training was resumed, what the earlier start logged beyond that point is left out; lines
    that are cut off are passed over.
    """
    train: Series = {}
    val: Series = {}
    for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        begun: set[int] = set()
        for line in read_json_lines(file):
            is_train = 'iter' in line or 'loss' in line
            target, x = (train, line.get('iter', line.get('step'))) if is_train else (val, None)
            x = line.get('step') if x is None else x
            if not isinstance(x, (int, float)):
                continue
            if id(target) not in begun:
                begun.add(id(target))
                for points in target.values():
                    points[:] = [point for point in points if point[0] < x]
            for name, value in line.items():
                if name not in ('iter', 'epoch', 'step') and isinstance(value, (int, float)):
                    target.setdefault(name, []).append((float(x), float(value)))
    return train, val


def curves_view(work_dir: str | os.PathLike) -> dict[str, Any] | None:
    """Charts of a training's log, and what it says of time and memory; None without a log."""
    train, val = read_scalars(work_dir)
    if not train and not val:
        return None
    found: list[tuple[str, Markup]] = []
    for title, names in GROUPS:
        series = {name: points for name, points in train.items() if _is_one_of(name, names)}
        if series:
            found.append((title, charts.lines(series, title, 'iteration')))
    results = {name: points for name, points in val.items() if name not in ('time', 'data_time')}
    for name, points in results.items():
        found.append((name, charts.lines({name: points}, name, 'epoch or iteration')))
    return dict(charts=found, facts=_facts(train))


def _is_one_of(name: str, patterns: tuple[str, ...]) -> bool:
    for pattern in patterns:
        first, _, last = pattern.partition('*')
        # What ends with a dot stands for all that is below it.
        whole = name == pattern or (pattern.endswith('.') and name.startswith(pattern))
        if whole or (last and name.startswith(first) and name.endswith(last)):
            return True
    return False


def _facts(train: Series) -> list[tuple[str, str]]:
    """Time and memory of a training, by its log."""
    found = []
    mean = {
        name: sum(y for _, y in points) / len(points)
        for name in ('time', 'data_time')
        if (points := [p for p in train.get(name, ()) if math.isfinite(p[1])])
    }
    if mean.get('time'):
        found.append(('time of a step', f'{mean["time"]:.3g} s on average'))
        if 'data_time' in mean:
            share = 100 * mean['data_time'] / mean['time']
            found.append(('waiting for data', f'{share:.0f} % of it'))
    if memory := train.get('memory'):
        found.append(('memory on the GPU', f'{max(y for _, y in memory):,.0f} MiB at most'))
    return found
