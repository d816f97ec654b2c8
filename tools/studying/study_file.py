"""The study file: what is trained, with which seeds, and what is compared with what."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from mmengine.config import Config

from cli.mixed_precision import DTYPES
from cli.options import reading_errors
from mmkdlayer.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
NAME = re.compile(r'[\w.+-]+')
Entry = TypeVar('Entry', 'Teacher', 'Row')


@dataclass(frozen=True)
class Teacher:
    """A network that is trained once."""

    config: str = ''  #: its training config
    cfg_options: Mapping[str, Any] = field(default_factory=dict)  #: changes of it, by dotted name
    seed: int = 0  #: of its training
    checkpoint: str | None = None  #: weights that are there already; then nothing is trained
    label: str = ''  #: what it is called on the page
    quoted: float | None = None  #: published top-1 accuracy in percent
    amp: str | None = None  #: ``'float16'`` or ``'bfloat16'``: mixed precision


@dataclass(frozen=True)
class Row:
    """A setting that is trained with every seed; attributes as of :class:`Teacher`, and others."""

    config: str = ''
    cfg_options: Mapping[str, Any] = field(default_factory=dict)
    #: Name of the teacher whose weights it gets as ``model.teacher_ckpt``.
    teacher: str | None = None
    #: Arguments of ``store_decisions.py``, such as ``dict(views=16)``, to train on them.
    stored: Mapping[str, Any] | None = None
    label: str = ''
    quoted: float | None = None
    group: str = ''  #: heading under which the page puts the row
    amp: str | None = None


@dataclass(frozen=True)
class Study:
    """What a study file says; see docs/study.md."""

    name: str  #: stem of the file
    rows: dict[str, Row]  #: by name
    seeds: tuple[int, ...]  #: of every row
    teachers: dict[str, Teacher] = field(default_factory=dict)  #: by name
    #: Pairs of rows; the page has the difference of the first to the second.
    comparisons: tuple[tuple[str, str], ...] = ()
    title: str = ''  #: heading of the page
    description: str = ''  #: text below it
    metric: str = 'accuracy/top1'  #: key of the accuracy that is compared, in percent
    data_root: str | None = None  #: folder of the data, for all


#: Keys of a study file that are no attributes of a :class:`Study`: defaults of its rows and teachers.
DEFAULTS = ('base', 'common', 'amp')
TEXTS = ('title', 'description', 'metric', 'data_root')
#: Types of the keys of rows and teachers.
KINDS: dict[str, Any] = dict(
    **dict.fromkeys(('config', 'teacher', 'checkpoint', 'label', 'group'), str),
    **dict.fromkeys(('cfg_options', 'stored'), Mapping),
    quoted=(int, float),
    seed=int,
)
#: Options of ``store_decisions.py`` that a row may give, and their least values.
STORED = dict(views=1, seed=0, logits=1)


def read_study(path: str | os.PathLike, data_root: str | None = None) -> Study:
    """Read a study file.

    Args:
        path: A Python file in the form of mmengine's configs; names that begin with ``_`` are its own.
        data_root: In the place of the file's.

    Raises:
        ConfigError: It can't be read, or says something that this command does not understand.
    """
    where = f'Study {path}'
    if not Path(path).is_file():
        there = ', '.join(sorted(file.name for file in Path(path).parent.glob('*.py')))
        raise ConfigError(f'{where}: there is no such file. In its folder: {there or "none"}.')
    with reading_errors(str(path)):
        content = Config.fromfile(path).to_dict()
    given = {key: value for key, value in content.items() if not key.startswith('_')}
    allowed = [item.name for item in fields(Study) if item.name != 'name']
    check_keys(given, [*allowed, *DEFAULTS], where)
    _check_types(given, dict(base=str, common=Mapping), f'{where}, ')
    defaults = {key: given.pop(key, None) for key in DEFAULTS}
    given['teachers'] = _read_entries(Teacher, 'teachers', given, defaults, Path(path))
    given['rows'] = _read_entries(Row, 'rows', given, defaults, Path(path))
    given['seeds'] = _read_seeds(given.get('seeds'), where)
    kinds = {**dict.fromkeys(TEXTS, str), 'comparisons': (list, tuple)}
    _check_types(given, kinds, f'{where}, ')
    pairs = given.get('comparisons') or ()
    given['comparisons'] = tuple(tuple(p) if isinstance(p, (list, tuple)) else p for p in pairs)
    given['data_root'] = data_root or given.get('data_root')
    study = Study(name=Path(path).stem, **given)
    _check(study, where)
    return study


def check_keys(given: Mapping[str, Any], allowed: list[str], where: str) -> None:
    """Raise a ConfigError that names near matches of a key that nothing reads."""
    for key in given:
        if key not in allowed:
            near = get_close_matches(key, allowed, n=2)
            hint = f'Did you mean {" or ".join(near)}? ' if near else ''
            raise ConfigError(f'{where}: nothing reads {key!r}. {hint}Known: {", ".join(allowed)}.')


def _read_entries(
    kind: type[Entry], key: str, given: Mapping[str, Any], defaults: Mapping[str, Any], path: Path
) -> dict[str, Entry]:
    entries = given.get(key) or {}
    if not isinstance(entries, Mapping):
        raise ConfigError(f'Study {path}: {key} must be dict(NAME=dict(...)), but is {entries!r}.')
    return {
        name: _read_entry(kind, name, entry, defaults, f'Study {path}, {key}.{name}', path.parent)
        for name, entry in entries.items()
    }


def _read_entry(
    kind: type[Entry], name: str, entry: Any, defaults: Mapping[str, Any], where: str, folder: Path
) -> Entry:
    if not NAME.fullmatch(name) or name.startswith('.'):
        raise ConfigError(
            f'{where}: a name becomes a folder; use letters, digits and "_", "-", "+", "." alone.'
        )
    if not isinstance(entry, Mapping):
        raise ConfigError(f'{where}: expected dict(config=..., ...), but found {entry!r}.')
    check_keys(entry, [item.name for item in fields(kind)], where)
    values = dict(entry)
    _check_types(values, KINDS, f'{where}.')
    common = defaults['common'] or {} if kind is Row else {}
    values.update(
        cfg_options={**dict(_dotted(common)), **dict(_dotted(values.get('cfg_options') or {}))},
        amp=values.get('amp', defaults['amp']),
        label=values.get('label') or name,
    )
    config = values.get('config') or (defaults['base'] if kind is Row else '')
    if not config and not values.get('checkpoint'):
        raise ConfigError(f'{where}: expected config="FILE", its training config.')
    values['config'] = find_config(config, folder, where) if config else ''
    if values.get('checkpoint'):
        _check_checkpoint(values, where)
    if values.get('stored') is not None:
        _check_stored(values['stored'], f'{where}.stored')
    if (values.get('seed') or 0) < 0:
        raise ConfigError(f'{where}.seed: expected 0 or more, but found {values["seed"]}.')
    if values['amp'] not in (None, *DTYPES):
        raise ConfigError(
            f'{where}.amp: expected None or one of {DTYPES}, found {values["amp"]!r}.'
        )
    return kind(**values)


def _check_types(given: Mapping[str, Any], kinds: Mapping[str, Any], where: str) -> None:
    for key, wanted in kinds.items():
        value = given.get(key)
        if value is not None and (not isinstance(value, wanted) or isinstance(value, bool)):
            names = ' or '.join(kind.__name__ for kind in _kinds(wanted))
            raise ConfigError(f'{where}{key}: expected {names}, but found {value!r}.')


def _kinds(wanted: Any) -> tuple[type, ...]:
    return wanted if isinstance(wanted, tuple) else (wanted,)


def _check_checkpoint(values: Mapping[str, Any], where: str) -> None:
    checkpoint = values['checkpoint']
    if values.get('config'):
        raise ConfigError(
            f'{where}: a teacher with checkpoint={checkpoint!r} is not trained, so its config would not '
            'be used. Remove one of them.'
        )
    if '://' not in checkpoint and not os.path.isfile(checkpoint):
        raise ConfigError(f'{where}.checkpoint: there is no file {checkpoint}.')


def _check_stored(stored: Mapping[str, Any], where: str) -> None:
    check_keys(stored, list(STORED), where)
    _check_types(stored, dict.fromkeys(STORED, int), f'{where}.')
    numbers = {key: value for key, value in stored.items() if value is not None}
    if 'views' not in numbers or any(value < STORED[key] for key, value in numbers.items()):
        raise ConfigError(f'{where}: expected such as dict(views=16), but found {dict(stored)}.')


def find_config(config: str, folder: Path, where: str) -> str:
    """The path of a config that a study names: from its own folder, from here, or of this project."""
    places = [folder / config, Path(config), ROOT / config]
    for place in places:
        if place.is_file():
            return str(place.resolve())
    raise ConfigError(
        f'{where}: there is no config {config}; looked for {", ".join(map(str, places))}.'
    )


def _dotted(options: Mapping[str, Any], prefix: str = '') -> Any:
    """Entries of nested dicts by their dotted names, as on a command line."""
    for key, value in options.items():
        if isinstance(value, Mapping) and value:
            yield from _dotted(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', value


def _read_seeds(seeds: Any, where: str) -> tuple[int, ...]:
    numbers = tuple(seeds) if isinstance(seeds, (list, tuple, range)) else ()
    is_right = all(type(seed) is int and seed >= 0 for seed in numbers)
    if not numbers or not is_right or len(set(numbers)) < len(numbers):
        raise ConfigError(f'{where}: expected seeds=[0, 1, ...], each once, but found {seeds!r}.')
    return numbers


def _check(study: Study, where: str) -> None:
    if not study.rows:
        raise ConfigError(
            f'{where}: expected rows=dict(NAME=dict(config=...)), but there are none.'
        )
    for name, row in study.rows.items():
        if row.teacher is not None and row.teacher not in study.teachers:
            raise ConfigError(
                f'{where}, rows.{name}.teacher: {row.teacher!r} is none of teachers: '
                f'{", ".join(study.teachers) or "none"}.'
            )
        if row.stored is not None and not row.teacher:
            raise ConfigError(f'{where}, rows.{name}: stored={row.stored} expects a teacher.')
    for pair in study.comparisons:
        if not isinstance(pair, tuple) or len(pair) != 2 or not all(p in study.rows for p in pair):
            raise ConfigError(
                f'{where}, comparisons: expected pairs of rows ({", ".join(study.rows)}), but found '
                f'{pair!r}.'
            )
