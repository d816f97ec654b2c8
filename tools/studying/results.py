"""``results.json``: all that a study has measured so far, written anew after each run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mmkdlayer.atomic import replacing
from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.plain_json import parse_json

from .finishing import shown
from .study_file import Study
from .tasks import Task

FILE = 'results.json'
FORMAT = 1
#: What the page needs of it.
KEYS = (
    *('study', 'title', 'description', 'metric', 'seeds', 'comparisons', 'rows', 'teacher_rows'),
    *('planned', 'written', 'environments', 'teachers', 'preparations', 'runs', 'failed'),
)


def write_results(
    study: Study, tasks: Sequence[Task], failed: Mapping[str, str], out: Path
) -> dict[str, Any]:
    """Gather the results of all tasks and write them; they are returned.

    ``failed`` has reasons by the names of tasks; those that failed before and were not begun again
    have theirs in their folders.
    """
    failed = dict(failed)
    environments: list[Any] = []
    found: dict[str, list[dict[str, Any]]] = {'teachers': [], 'runs': [], 'preparations': []}
    for task in tasks:
        try:
            result = task.result(out)
        except DataError as error:
            failed[task.name] = str(error)
            continue
        if result is not None:
            used = result.pop('environment')
            if used not in environments:
                environments.append(used)
            result['environment'] = environments.index(used)
            place = task.name.split('/')[0]
            found[place if place in found else 'preparations'].append(result)
        elif reason := task.failure(out):
            failed.setdefault(task.name, reason)
    content = dict(
        format=FORMAT,
        study=study.name,
        title=study.title or study.name,
        description=study.description,
        metric=study.metric,
        seeds=list(study.seeds),
        comparisons=[list(pair) for pair in study.comparisons],
        rows={name: _described(row) for name, row in study.rows.items()},
        teacher_rows={name: _described(teacher) for name, teacher in study.teachers.items()},
        planned=sum(task.kind == 'train' for task in tasks),
        written=datetime.now(timezone.utc).isoformat(timespec='seconds'),
        environments=environments,
        **found,
        failed=[
            dict(name=name, reason=reason.replace(str(out), '{out}'))
            for name, reason in failed.items()
        ],
    )
    with replacing(out / FILE) as file:
        file.write_text(_compact(content) + '\n', encoding='utf-8')
    return content


def _described(entry: Any) -> dict[str, Any]:
    """A row or a teacher as the study file has it, without paths of this machine."""
    said = {key: value for key, value in vars(entry).items() if value not in (None, '', {})}
    for key in ('config', 'checkpoint'):
        if said.get(key):
            said[key] = shown(said[key])
    return said


def _compact(value: Any, indent: int = 0) -> str:
    """JSON with each list of numbers, and each short list, on one line."""
    if isinstance(value, Mapping) and value:
        inner = ' ' * (indent + 1)
        lines = (f'{inner}{json.dumps(k)}: {_compact(v, indent + 1)}' for k, v in value.items())
        return '{\n' + ',\n'.join(lines) + '\n' + ' ' * indent + '}'
    text = json.dumps(value, default=str)
    if not isinstance(value, (list, tuple)) or not any(isinstance(item, Mapping) for item in value):
        return text
    inner = ' ' * (indent + 1)
    lines = (f'{inner}{_compact(item, indent + 1)}' for item in value)
    return '[\n' + ',\n'.join(lines) + '\n' + ' ' * indent + ']'


def check_name(study: str, out: Path) -> None:
    """Raise a ConfigError where a folder has the results of another study."""
    with suppress(DataError):  # none, or damaged ones, which are written anew
        if (found := read_results(out)['study']) != study:
            raise ConfigError(
                f'{out / FILE} has the results of the study {found}, which those of {study} would '
                'replace. Choose another --out; if the study file was renamed, remove that file.'
            )


def check_metric(results: Mapping[str, Any]) -> None:
    """Raise a DataError where the accuracy that is to be compared was not measured."""
    for run in results['runs']:
        if results['metric'] not in run['accuracy']:
            raise DataError(
                f'{run["name"]} has no {results["metric"]!r}, which the study file names as metric, but '
                f'{", ".join(run["accuracy"])}. Correct the metric and start the study again: nothing '
                'is trained again.'
            )


def read_results(out: Path) -> dict[str, Any]:
    """Read ``results.json``.

    Raises:
        DataError: It is not there, or of another format.
    """
    path = out / FILE
    try:
        content = parse_json(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise DataError(f'{path}: expected the results of a study, but found: {error}.') from error
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        raise DataError(
            f'{path}: expected results of format {FORMAT}, as "python -m mmkdlayer study" writes them.'
        )
    if lacking := [key for key in KEYS if key not in content]:
        raise DataError(
            f'{path} has no {", ".join(lacking)}. Start the study again, which writes it anew.'
        )
    return content
