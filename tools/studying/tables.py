"""The numbers of a study's page, from ``results.json`` alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from .paired import Difference, compare, summarise

Results = Mapping[str, Any]


def accuracies(results: Results, row: str) -> dict[int, float]:
    """Accuracy of the exported student, by seed, of the runs that are done."""
    metric = results['metric']
    return {
        run['seed']: run['accuracy'][metric]
        for run in results['runs']
        if run['row'] == row and metric in run['accuracy']
    }


def groups(results: Results) -> dict[str, list[str]]:
    """The names of the rows by the heading that they stand under."""
    found: dict[str, list[str]] = {}
    for name, row in results['rows'].items():
        found.setdefault(row.get('group', ''), []).append(name)
    return found


def training_seconds(run: Mapping[str, Any]) -> float | None:
    """Time of all steps of a training: their median times their number."""
    return run['step_seconds'] * run['steps'] if run.get('step_seconds') else None


def devices(results: Results) -> list[tuple[str, int]]:
    """Kinds of devices and their numbers of runs: first the one of most rows, then of most runs."""
    rows: dict[str, list[str]] = {}
    for run in results['runs']:
        rows.setdefault(_device(results, run), []).append(run['row'])
    ranked = sorted(rows, key=lambda name: (-len(set(rows[name])), -len(rows[name]), name))
    return [(name, len(rows[name])) for name in ranked]


def _device(results: Results, run: Mapping[str, Any]) -> str:
    environment = results['environments'][run['environment']]
    processor = f'{environment["processor"] or "a processor"} with {environment["threads"]} threads'
    return str(environment['gpu'] or processor)


def mean_time(results: Results, row: str, value: Any) -> float | None:
    """The mean over a row's runs of a time that ``value(run)`` gives; None without any.

    Of runs on the first of :func:`devices`: others can not be compared.
    """
    usual = devices(results)[:1]
    runs = [run for run in results['runs'] if run['row'] == row]
    found = [value(run) for run in runs if _device(results, run) == usual[0][0]]
    found = [number for number in found if number is not None]
    return statistics.fmean(found) if found else None


def cost_of(results: Results, row: str) -> Mapping[str, Any]:
    """The cost of a row's student; empty before its first run is done."""
    return next((run['cost'] for run in results['runs'] if run['row'] == row), {})


def accuracy_table(results: Results, rows: list[str]) -> list[list[str]]:
    """Measured beside quoted accuracy, and what each student costs; the first line is the head."""
    table = [
        [
            *('run', 'top-1, %', 'runs', 'quoted', 'parameters', 'parameters, folded'),
            *('FLOPs', 'FLOPs, folded', 'step, ms', 'all steps'),
        ]
    ]
    if results['metric'] != 'accuracy/top1':
        table[0][1] = results['metric']
    for name in rows:
        row, cost = results['rows'][name], cost_of(results, name)
        step = mean_time(results, name, lambda run: run.get('step_seconds'))
        table.append(
            [
                row['label'],
                shown_mean(list(accuracies(results, name).values())),
                str(len(accuracies(results, name))),
                f'{row["quoted"]:.2f}' if 'quoted' in row else '–',
                *(
                    shown_count(cost.get(key))
                    for key in ('parameters', 'folded_parameters', 'flops', 'folded_flops')
                ),
                f'{step * 1e3:.1f}' if step else '–',
                shown_time(mean_time(results, name, training_seconds)),
            ]
        )
    return table


def teacher_table(results: Results) -> list[list[str]]:
    """Accuracy of the teachers."""
    table = [['teacher', 'top-1, %', 'quoted', 'seed']]
    for name, teacher in results['teacher_rows'].items():
        run = next((run for run in results['teachers'] if run['row'] == name), None)
        accuracy = run['accuracy'].get(results['metric']) if run else None
        given = 'weights were given' if 'checkpoint' in teacher else '–'
        table.append(
            [
                teacher['label'],
                f'{accuracy:.2f}' if accuracy is not None else given,
                f'{teacher["quoted"]:.2f}' if 'quoted' in teacher else '–',
                str(run['seed']) if run else '–',
            ]
        )
    return table


def comparison_table(results: Results) -> list[list[str]]:
    """The differences over seeds, with their interval."""
    table = [['difference', 'points', '95 % interval', 'seeds', '0 in the interval?']]
    for pair in results['comparisons']:
        labels = [results['rows'][name]['label'] for name in pair]
        found = compare(*(accuracies(results, name) for name in pair))
        table.append([f'{labels[0]} − {labels[1]}', *shown_difference(found)])
    return table


def shown_difference(found: Difference | None) -> list[str]:
    """The cells of a difference."""
    if found is None:
        return ['–', '–', '0', 'no seed has both']
    if found.margin is None:
        return [f'{found.mean:+.2f}', '–', '1', 'one seed tells nothing']
    low, high = found.mean - found.margin, found.mean + found.margin
    verdict = 'no' if found.is_clear else 'yes'
    return [f'{found.mean:+.2f}', f'{low:+.2f} to {high:+.2f}', str(found.n), verdict]


def shown_mean(values: list[float]) -> str:
    """Mean and deviation, as a cell."""
    found = summarise(values)
    if found is None:
        return '–'
    return f'{found.mean:.2f}' + (
        f' ± {found.deviation:.2f}' if found.deviation is not None else ''
    )


def shown_count(number: float | None) -> str:
    """A number of parameters or FLOPs, such as ``1.25 M``."""
    if number is None:
        return '–'
    for size, unit in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if number >= size:
            return f'{number / size:.2f} {unit}'
    return f'{number:.0f}'


def shown_time(seconds: float | None) -> str:
    """A duration, such as ``2 h 05 min``."""
    if seconds is None:
        return '–'
    if seconds < 90:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    return f'{minutes} min' if minutes < 90 else f'{minutes // 60} h {minutes % 60:02d} min'
