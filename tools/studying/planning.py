"""What a study consists of: tasks, each one a process, some of which wait for others."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mmengine.config import Config

from cli.options import find_hook, load_config
from mmkdlayer.engine.fingerprints import hash_json, without_paths
from mmkdlayer.errors import ConfigError
from mmkdlayer.pipelines import find_dataset, test_loader
from mmkdlayer.type_names import type_name

from .command_line import cfg_options_line
from .study_file import Row, Study, Teacher
from .tasks import Task
from .weights import hash_file, hash_weights


@dataclass
class Setting:
    """A row or a teacher with its config read."""

    name: str  #: of the row or the teacher
    entry: Row | Teacher  #: what the study says of it
    cfg: Config  #: its config, with its changes
    line: tuple[str, ...]  #: config and options of its commands, without those that the plan adds
    #: Number of the FitDecisionsHook in ``custom_hooks``; None without decisions to fit.
    hook: int | None = None
    #: What each decision that is to be fitted depends on, by its name.
    layers: dict[str, str] = field(default_factory=dict)
    #: What its tasks use besides: hashes of the teacher, and of the weights that training begins with.
    used: dict[str, str] = field(default_factory=dict)


def plan(study: Study, keep_checkpoints: bool = True) -> tuple[list[Task], dict[str, Setting]]:
    """The tasks of a study in the order of their start, and its rows and teachers with their configs.

    Trainings follow seed by seed, so that a study that is cut short has whole seeds.

    Raises:
        ConfigError: A config can't be read, or changed as the study says.
    """
    teachers = {name: _read(name, t, study) for name, t in study.teachers.items()}
    rows = {name: _read(name, row, study) for name, row in study.rows.items()}
    tasks = [
        _training(f'teachers/{name}', found, study.teachers[name].seed, study, (), plain=True)
        for name, found in teachers.items()
        if not study.teachers[name].checkpoint
    ]
    marks = {name: hash_file(teacher.checkpoint or '') for name, teacher in study.teachers.items()}
    marks.update({task.row: hash_json([task.identity, task.used]) for task in tasks})
    for setting in rows.values():
        assert isinstance(setting.entry, Row)
        if setting.entry.teacher:
            setting.used['teacher'] = marks[setting.entry.teacher]
    more = {name: _preparation(setting, rows, study, tasks) for name, setting in rows.items()}
    tasks += [
        _training(f'runs/{name}/seed{seed}', setting, seed, study, *more[name])
        for seed in study.seeds
        for name, setting in rows.items()
    ]
    return [replace(task, keep_checkpoints=keep_checkpoints) for task in tasks], {
        **{f'teachers/{name}': found for name, found in teachers.items()},
        **{f'runs/{name}': found for name, found in rows.items()},
    }


def choose(
    tasks: list[Task], settings: Mapping[str, Setting], rows: Sequence[str]
) -> tuple[list[Task], dict[str, Setting]]:
    """Of a study's plan, the trainings of some rows and all that these wait for.

    Raises:
        ConfigError: The study has no such row.
    """
    trainings = [task for task in tasks if task.name.startswith('runs/')]
    known = dict.fromkeys(task.row for task in trainings)
    if unknown := [row for row in rows if row not in known]:
        raise ConfigError(
            f'--rows {" ".join(unknown)}: the study has no such row; it has {", ".join(known)}.'
        )
    wanted = {task.name for task in trainings if task.row in rows}
    for task in reversed(tasks):  # what a task waits for stands before it
        if task.name in wanted:
            wanted.update(task.needs)
    kept = {'/'.join(name.split('/')[:2]) for name in wanted}
    return [task for task in tasks if task.name in wanted], {
        name: setting for name, setting in settings.items() if name in kept
    }


def _read(name: str, entry: Row | Teacher, study: Study) -> Setting:
    where = f'{type(entry).__name__.lower()} {name}'
    options = dict(entry.cfg_options)
    if 'randomness.seed' in options:
        raise ConfigError(f'{where}: randomness.seed is what the study sets; see its key seeds.')
    line = cfg_options_line(options, where)
    if not entry.config:
        return Setting(name, entry, Config(), ())
    arguments = argparse.Namespace(
        config=entry.config, data_root=study.data_root, cfg_options=options
    )
    cfg = load_config(arguments)
    if not cfg.get('train_cfg'):
        raise ConfigError(f'{where}: {entry.config} has no train_cfg; expected a training config.')
    root = ('--data-root', study.data_root) if study.data_root else ()
    own = cfg.to_dict()
    teacher = [own['model'].pop(key, None) for key in ('teacher', 'teacher_ckpt')]
    used = dict(teacher=hash_weights(teacher), weights=hash_weights(own))
    setting = Setting(name, entry, cfg, (entry.config, *root, *line), used=used)
    hooks = cfg.get('custom_hooks') or []
    setting.layers = dict(_decisions(cfg))
    if setting.layers:
        hook = find_hook(cfg, 'FitDecisionsHook')
        if hook is None or hook.get('out_dir'):
            raise ConfigError(
                f'{where}: expected dict(type="mmkdlayer.FitDecisionsHook") without out_dir in '
                f'custom_hooks of {entry.config}: runs of one teacher share its decisions.'
            )
        setting.hook = list(hooks).index(hook)
    return setting


def _decisions(cfg: Config) -> Iterator[tuple[str, str]]:
    """Name and description of each decision of a config that no file gives."""
    distiller = cfg.model.get('distiller') or {}
    kinds = ('SubclassDecision', 'CentroidDecision')
    for name, layer in (distiller.get('kd_layers') or {}).items():
        if layer.get('decision') and not layer['decision'].get('file'):
            keys = ('module', 'teacher', 'teacher_index', 'extra_tokens', 'grid')
            tables = {k: v for k, v in layer['decision'].items() if k != 'temperature'}
            yield name, hash_json({**{key: layer.get(key) for key in keys}, 'decision': tables})
    others = {key: value for key, value in distiller.items() if key != 'kd_layers'}
    if any(type_name(kind) in kinds for kind in _types(others)):
        yield '', hash_json(others)  # of losses that are written out


def _types(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        if 'type' in value and not value.get('file'):
            yield value['type']
        value = list(value.values())
    for item in value if isinstance(value, (list, tuple)) else ():
        yield from _types(item)


def _preparation(
    setting: Setting, rows: Mapping[str, Setting], study: Study, tasks: list[Task]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """What a row waits for, the ``--cfg-options`` and the other options that it gets for that.

    Fitting and storing are added to the tasks. A row whose decisions are among those of another row of
    the same teacher uses the other's.
    """
    entry = setting.entry
    assert isinstance(entry, Row)
    needs: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    if entry.teacher:
        teacher = study.teachers[entry.teacher]
        weights = teacher.checkpoint or f'{{out}}/teachers/{entry.teacher}/exported/student.pth'
        options += (f'model.teacher_ckpt={weights}',)
        needs = () if teacher.checkpoint else (f'teachers/{entry.teacher}',)
    if not setting.layers:
        if entry.stored is not None:
            raise ConfigError(
                f'row {setting.name}: stored={entry.stored}, but it has no decisions.'
            )
        return needs, options, ()
    same = [
        other
        for other in rows.values()
        if _source(other) == _source(setting) and setting.layers.items() <= other.layers.items()
    ]
    widest = max(same, key=lambda other: len(other.layers))
    key = hash_json([_source(widest), widest.layers])[:8]
    name = f'decisions/{entry.teacher or "own"}-{key}'
    taught = dict(teacher=setting.used['teacher'])
    options += (f'custom_hooks.{setting.hook}.out_dir={{out}}/{name}/tables',)
    if name not in {task.name for task in tasks}:
        given = tuple(o.replace(f'.{setting.hook}.', f'.{widest.hook}.') for o in options)
        command = ('fit_decisions.py', *_with(widest.line, given), '--work-dir', f'{{out}}/{name}')
        task = Task(name, 'fit', command, identity=key, used=taught, needs=needs, row=widest.name)
        tasks.append(task)
    needs = (*needs, name)
    if entry.stored is None:
        return needs, options, ()
    train = find_dataset(setting.cfg.train_dataloader)
    layers = setting.cfg.model.distiller.get('kd_layers') or {}
    temperatures = [
        [layer, found['decision']['temperature']]
        for layer, found in layers.items()
        if (found.get('decision') or {}).get('temperature', 1.0) != 1.0
    ]  # decisions are stored with them
    parts = [key, setting.layers, dict(entry.stored), without_paths(train), *temperatures]
    stored = hash_json(parts)[:8]
    name = f'stored/{entry.teacher or "own"}-{stored}'
    if name not in {task.name for task in tasks}:
        words = [w for k, v in entry.stored.items() for w in (f'--{k.replace("_", "-")}', str(v))]
        command = ('store_decisions.py', *_with(setting.line, options), *words)
        command += ('--out', f'{{out}}/{name}/store', '--work-dir', f'{{out}}/{name}')
        task = Task(name, 'store', command, identity=stored, used=taught, needs=needs)
        tasks.append(replace(task, row=setting.name))
    return (*needs, name), options, ('--stored', f'{{out}}/{name}/store')


def _source(setting: Setting) -> str:
    """What all decisions of a row depend on: the teacher, the images and what is done to them."""
    cfg, entry = setting.cfg, setting.entry
    if not setting.layers or not isinstance(entry, Row):
        return setting.name
    loaders = [find_dataset(cfg.get(f'{split}_dataloader')) for split in ('train', 'val')]
    data = without_paths([*loaders, cfg.get('data_preprocessor'), cfg.model.get('teacher')])
    hook = cfg.custom_hooks[setting.hook] if setting.hook is not None else None
    return hash_json([entry.teacher, cfg.model.get('teacher_ckpt'), data, hook])


def _with(line: tuple[str, ...], options: tuple[str, ...]) -> tuple[str, ...]:
    """A command's config and options with more ``--cfg-options``."""
    start = () if not options or '--cfg-options' in line else ('--cfg-options',)
    return (*line, *start, *options)


def _training(
    name: str,
    setting: Setting,
    seed: int,
    study: Study,
    needs: tuple[str, ...],
    options: tuple[str, ...] = (),
    words: tuple[str, ...] = (),
    plain: bool = False,
) -> Task:
    cfg, entry = setting.cfg, setting.entry
    config, *line = _with(setting.line, (*options, f'randomness.seed={seed}'))
    more = [*words, *([f'--amp={entry.amp}'] if entry.amp else [])]
    command = ('train.py', config, '--work-dir', f'{{out}}/{name}', '--resume', *more, *line)
    stored = entry.stored if isinstance(entry, Row) else None
    parts = [without_paths(cfg.to_dict()), seed, entry.amp, stored and dict(stored)]
    if isinstance(entry, Row):
        parts.append(entry.teacher)
    root = study.data_root or (find_dataset(test_loader(cfg)) or {}).get('data_root') or ''
    return Task(
        name=name,
        kind='train',
        command=command,
        config=config,
        options=tuple(line),
        identity=hash_json(parts),
        used=setting.used,
        needs=needs,
        length=int(cfg.train_cfg.get('max_epochs') or cfg.train_cfg.get('max_iters') or 0),
        row=setting.name,
        seed=seed,
        test_root=os.path.abspath(root) if study.data_root or os.path.isabs(root) else None,
        plain=plain,
    )
