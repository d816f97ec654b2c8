"""The page of a study, as markdown with its plots beside it, and as one HTML file."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmkdlayer.atomic import replacing
from mmkdlayer.errors import DataError

from .plots import plots
from .tables import (
    accuracies,
    accuracy_table,
    comparison_table,
    devices,
    groups,
    shown_time,
    teacher_table,
)

#: Part of a page: ``('head', level, text)``, ``('text', text)``, ``('table', rows)`` or
#: ``('plot', caption, name, svg)``.
Block = tuple[Any, ...]
STYLE = """body{font:15px/1.5 sans-serif;max-width:76em;margin:2em auto;padding:0 1em}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .7em;border-bottom:1px solid #ccc}
td{text-align:right}td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}"""


def write_page(results: Mapping[str, Any], out: Path) -> list[Path]:
    """Write ``page.md`` with ``plots/*.svg``, and ``page.html``, which needs no other file."""
    blocks = list(page_blocks(results))
    files = {out / 'plots' / f'{block[2]}.svg': block[3] for block in blocks if block[0] == 'plot'}
    files[out / 'page.md'] = '\n\n'.join(map(_markdown, blocks))
    title = html.escape(results['title'])
    body = '\n'.join(map(_html, blocks))
    files[out / 'page.html'] = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f'<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>'
    )
    for path, text in files.items():
        with replacing(path) as file:
            file.write_text(text + '\n', encoding='utf-8')
    return list(files)


def write_tables(results: Mapping[str, Any], path: Path) -> None:
    """Put the tables of accuracy and differences into a page, such as a README, in their place there.

    They have what has been trained, or of that the rows that the place names
    (``<!-- begin study NAME: ROW ROW -->``); how many trainings are missing stands above them.

    Raises:
        DataError: It has no such place, names a row that is not known, or is not in UTF-8.
    """
    name = results['study']
    end = f'<!-- end study {name} -->'
    path = path.resolve()  # a link stays one
    try:
        text = path.read_bytes().decode('utf-8') if path.is_file() else ''
    except UnicodeDecodeError as error:
        raise DataError(f'{path}: expected text in UTF-8, but found: {error}.') from error
    place = re.search(rf'<!-- begin study {re.escape(name)}(?:: ([^>]+))? -->', text)
    if place is None or end not in text[place.end() :]:
        raise DataError(
            f'{path}: expected the lines <!-- begin study {name} --> (or <!-- begin study {name}: ROW '
            f'ROW -->) and {end}, where the tables are to stand.'
        )
    wanted = (place[1] or ' '.join(results['rows'])).split()
    if unknown := [row for row in wanted if row not in results['rows']]:
        raise DataError(
            f'{path}: {place[0]} names {", ".join(unknown)}; the rows are {", ".join(results["rows"])}.'
        )
    kept = (0, 1, 2, 3, 5, 7)  # what it is, accuracy, folded cost
    trained = [row for row in results['rows'] if row in wanted and accuracies(results, row)]
    shown = dict(
        results,
        comparisons=[pair for pair in results['comparisons'] if set(wanted).issuperset(pair)],
    )
    accuracy = [[row[column] for column in kept] for row in accuracy_table(results, trained)]
    differences = [line for line in comparison_table(shown) if line[3] != '0']
    blocks: list[Block] = [*_completeness(results)]
    blocks += [('table', accuracy)] if trained else []
    if len(differences) > 1:
        blocks += [('text', _about_differences(results)), ('table', differences)]
    new = '\n\n'.join([place[0], *map(_markdown, blocks), end])
    if '\r\n' in text:
        new = new.replace('\n', '\r\n')
    with replacing(path) as file:
        rest = text[place.end() :].partition(end)[2]
        file.write_bytes(f'{text[: place.start()]}{new}{rest}'.encode())


def page_blocks(results: Mapping[str, Any]) -> Iterator[Block]:
    """What the page says, from top to bottom."""
    yield 'head', 1, results['title']
    if results['description']:
        yield 'text', ' '.join(results['description'].split())
    yield from _state(results)
    if results['teacher_rows']:
        yield 'head', 2, 'Teachers'
        yield 'table', teacher_table(results)
    yield 'head', 2, 'Accuracy'
    yield (
        'text',
        'Accuracy of the exported student after the last epoch: mean ± standard deviation (n − 1) '
        'over the runs. "Quoted" is the published figure, not measured here. FLOPs are for one '
        'image: one for each multiply-add, two for each value of a batch norm; "folded" is what the '
        'exported student has, each KD layer as two plain 1x1 convolutions. Times are those of '
        'training steps alone, the median times their number; those of runs beside one another are '
        'longer than alone.',
    )
    # Groups that are compared with one another are drawn in the same plots.
    group = {name: row.get('group', '') for name, row in results['rows'].items()}
    joint = any(group[first] != group[second] for first, second in results['comparisons'])
    for number, (heading, rows) in enumerate(groups(results).items()):
        if heading:
            yield 'head', 3, heading
        yield 'table', accuracy_table(results, rows)
        if not joint:
            yield from _plots(results, rows, f'_{number}' if number else '')
    if joint:
        yield from _plots(results, list(results['rows']))
    if results['comparisons']:
        yield 'head', 2, 'Differences'
        yield 'text', _about_differences(results)
        yield 'table', comparison_table(results)
    yield 'head', 2, 'How it was run'
    yield from _circumstances(results)


def _plots(results: Mapping[str, Any], rows: list[str], end: str = '') -> Iterator[Block]:
    captions = dict(
        flops='Accuracy against the cost of the student',
        time='Accuracy against training time',
        curves='Learning curves: accuracy on the validation images, and the loss',
    )
    for name, svg in plots(results, rows).items():
        yield 'plot', captions[name], f'{name}{end}', svg


def _about_differences(results: Mapping[str, Any]) -> str:
    return (
        'Means of the differences between runs of the same seed, with the 95 % interval of a paired t '
        'test. It is not corrected for the number of comparisons of the study, '
        f'{len(results["comparisons"])}; with few seeds it is wide, and rests on differences being '
        'normally distributed.'
    )


def _completeness(results: Mapping[str, Any]) -> Iterator[Block]:
    done = len(results['runs']) + len(results['teachers'])
    if done < results['planned']:
        yield 'text', f'**Not complete: {done} of {results["planned"]} trainings are done.**'
    for failed in results['failed']:
        yield 'text', f'**Failed: {failed["name"]}**: {" ".join(failed["reason"].split())}'


def _state(results: Mapping[str, Any]) -> Iterator[Block]:
    yield from _completeness(results)
    if len(found := devices(results)) > 1:
        others = ', '.join(f'{count} on {device}' for device, count in found[1:])
        yield (
            'text',
            f'Times are those of the {found[0][1]} runs on {found[0][0]}, without {others}.',
        )


def _circumstances(results: Mapping[str, Any]) -> Iterator[Block]:
    runs = [*results['teachers'], *results['preparations'], *results['runs']]
    for number, found in enumerate(results['environments']):
        names = ', '.join(f'{name} {text}' for name, text in found['versions'].items())
        count = sum(run['environment'] == number for run in runs)
        device = found['gpu'] or found['processor']
        text = f'{count} of {len(runs)} tasks: {device}, {found["threads"]} threads each; {names}; '
        yield 'text', f'{text}commit {found["commit"] or "not known"}.'
    total = sum(run['wall_seconds'] for run in runs)
    parts = ' '.join(
        f'{kind}: {shown_time(sum(run["wall_seconds"] for run in results[kind]))};'
        for kind in ('teachers', 'preparations', 'runs')
    )
    again = [f'{run["name"]} ({run["attempts"]})' for run in runs if run['attempts'] > 1]
    text = f'Seeds {", ".join(map(str, results["seeds"]))}. Time of all processes: {shown_time(total)} '
    text += f'({parts.rstrip(";")}). Written {results["written"]}.'
    if again:
        text += f' Interrupted and resumed, with the number of starts: {", ".join(again)}.'
    yield 'text', text


def _markdown(block: Block) -> str:
    kind, *parts = block
    if kind == 'head':
        return f'{"#" * parts[0]} {parts[1]}'
    if kind == 'plot':
        return f'![{parts[0]}](plots/{parts[1]}.svg)'
    if kind == 'table':
        head, *rows = ([cell.replace('|', '\\|') for cell in row] for row in parts[0])
        lines = [head, ['---', *['---:'] * (len(head) - 1)], *rows]
        return '\n'.join(f'| {" | ".join(line)} |' for line in lines)
    return parts[0]


def _html(block: Block) -> str:
    kind, *parts = block
    if kind == 'head':
        return f'<h{parts[0]}>{html.escape(parts[1])}</h{parts[0]}>'
    if kind == 'plot':
        return f'<figure>{parts[2]}<figcaption>{html.escape(parts[0])}</figcaption></figure>'
    if kind == 'table':
        head, *rows = ([html.escape(cell) for cell in row] for row in parts[0])
        lines = [f'<tr>{"".join(f"<th>{cell}</th>" for cell in head)}</tr>']
        lines += [f'<tr>{"".join(f"<td>{cell}</td>" for cell in row)}</tr>' for row in rows]
        return f'<table>{"".join(lines)}</table>'
    bold = re.sub(r'[*]{2}(.+?)[*]{2}', r'<b>\1</b>', html.escape(parts[0]))
    return f'<p>{bold}</p>'
