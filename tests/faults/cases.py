"""Which command gets which injection, and how often each is tried."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from .damages import WAYS, Damage
from .injections import (
    Beside,
    FileSizeLimit,
    FullDisk,
    HandleLimit,
    Injection,
    MemoryLimit,
    SignalAtMoment,
    SignalAtOperation,
    can_mount,
)
from .job import RANKS
from .stages import Stages

Draw = Callable[[random.Random, Stages, 'Case', Path], Injection]


@dataclass(frozen=True)
class Case:
    """A kind of trial.

    Attributes:
        kind: Row of the table.
        stage: State of the job at the start.
        command: What is run.
        draw: Makes the injection for a job.
        may_refuse: Whether a clear error is right, as long as all is well once its cause is gone.
        compared: Names of results that are compared begin with this.
        may_differ: Whether weights may be others, as long as a warning names the damaged file.
        again: How often the injection is repeated, on the next start.
    """

    kind: str
    stage: str
    command: str
    draw: Draw
    may_refuse: bool = False
    compared: str = ''
    may_differ: bool = False
    again: int = 0


def _operation(rng: random.Random, stages: Stages, case: Case) -> int:
    """One of all file operations, or one of those that change something: both are as likely."""
    operations = stages.operations(case.command)
    changing = [i for i, text in enumerate(operations, 1) if not text.startswith('open data')]
    return rng.choice([rng.randint(1, len(operations)), rng.choice(changing)])


def at_operation(*names: str) -> Draw:
    """Signals at a file operation; a second one comes a few operations later."""

    def draw(rng: random.Random, stages: Stages, case: Case, job: Path) -> Injection:
        first = _operation(rng, stages, case)
        numbers = [first + step * rng.randint(1, 10) for step in range(len(names))]
        return SignalAtOperation(names, tuple(sorted(numbers)))

    return draw


def in_one_rank(*names: str) -> Draw:
    """Signals at a file operation of one of the processes."""

    def draw(rng: random.Random, stages: Stages, case: Case, job: Path) -> Injection:
        injection = at_operation(*names)(rng, stages, case, job)
        injection.rank = rng.randrange(RANKS[case.command])
        return injection

    return draw


def at_moment(*names: str) -> Draw:
    """Signals at a moment of the whole duration."""

    def draw(rng: random.Random, stages: Stages, case: Case, job: Path) -> Injection:
        moments = sorted(rng.uniform(0, stages.seconds(case.command)) for _ in names)
        return SignalAtMoment(names, tuple(moments))

    return draw


def in_write(kills: bool) -> Draw:
    """Within a write of one of the larger files."""

    def draw(rng: random.Random, stages: Stages, case: Case, job: Path) -> Injection:
        return FileSizeLimit(rng.randint(60_000, 260_000), kills)

    return draw


def full_disk(rng: random.Random, stages: Stages, case: Case, job: Path) -> Injection:
    """A small disk for the work dir; without the right to mount one, a limit of each file."""
    if can_mount(stages.folder / 'mount'):
        return FullDisk(rng.randint(0, 700_000))
    return FileSizeLimit(rng.randint(10_000, 260_000), kills=False)


def full_disk_in_storing(rng: random.Random, stages: Stages, case: Case, job: Path) -> Injection:
    """As :func:`full_disk`; what is stored is small."""
    if can_mount(stages.folder / 'mount'):
        return FullDisk(rng.randint(0, 30_000))
    return FileSizeLimit(rng.randint(500, 6_000), kills=False)


def nothing(rng: random.Random, stages: Stages, case: Case, job: Path) -> Injection:
    return Injection()


def few_handles(rng: random.Random, stages: Stages, case: Case, job: Path) -> Injection:
    return HandleLimit(rng.randint(2, 9))


def little_memory(rng: random.Random, stages: Stages, case: Case, job: Path) -> Injection:
    return MemoryLimit(rng.randint(1 << 20, 1 << 26))


def beside(command: str) -> Draw:
    """A second command, started at some moment of the first."""

    def draw(rng: random.Random, stages: Stages, case: Case, job: Path) -> Injection:
        return Beside(command, rng.choice([0, rng.uniform(0, stages.seconds(case.command))]))

    return draw


def damaged(pattern: str, siblings: bool = True) -> Draw:
    """A file that is damaged before the command starts; or takes the content of a sibling."""
    ways = sorted(way for way in WAYS if siblings or way != 'of a sibling')

    def draw(rng: random.Random, stages: Stages, case: Case, job: Path) -> Injection:
        files = sorted(path.relative_to(job).as_posix() for path in job.glob(pattern))
        return Damage(rng.choice(files), rng.choice(ways), rng.randrange(1 << 30))

    return draw


def damaged_meanwhile(*files: str) -> Draw:
    """A file that is damaged while the command runs."""

    def draw(rng: random.Random, stages: Stages, case: Case, job: Path) -> Injection:
        operation = _operation(rng, stages, case)
        way = rng.choice(sorted(WAYS))
        return Damage(rng.choice(files), way, rng.randrange(1 << 30), operation)

    return draw


def _kills() -> Iterator[Case]:
    yield Case('kill -9 in training', 'fresh', 'train', at_operation('SIGKILL'))
    yield Case('kill -9 in training', 'fresh', 'train', at_moment('SIGKILL'))
    yield Case('kill -9 in training', 'fitted', 'train', at_operation('SIGKILL'))
    yield Case('kill -9 twice', 'fresh', 'train', at_operation('SIGKILL'), again=1)
    yield Case('kill -9 with data workers', 'fresh', 'train with workers', at_moment('SIGKILL'))
    # The code may be that of the other one, which says that it has lost contact.
    draw = in_one_rank('SIGKILL')
    yield Case('kill -9 of one rank', 'fresh', 'train on two ranks', draw, may_refuse=True)
    yield Case('kill -9 in fitting', 'fresh', 'fit', at_operation('SIGKILL'))
    yield Case('kill -9 in fitting', 'fresh', 'fit', at_moment('SIGKILL'))
    for draw in (at_operation('SIGKILL'), at_moment('SIGKILL')):
        yield Case('kill -9 in storing', 'fitted', 'store', draw)
    yield Case('kill -9 in storing', 'fitted', 'store with workers', at_moment('SIGKILL'))
    draw = in_one_rank('SIGKILL')
    yield Case('kill -9 in storing', 'fitted', 'store on two ranks', draw, may_refuse=True)
    yield Case('kill -9 in export', 'finished', 'export', at_operation('SIGKILL'))
    yield Case('kill -9 within a write', 'fresh', 'train', in_write(kills=True))


def _ranks() -> Iterator[Case]:
    for command in ('store with workers', 'store on two ranks', 'store on three ranks'):
        yield Case('storing by several', 'fitted', command, nothing)


def _signals() -> Iterator[Case]:
    for name in ('SIGTERM', 'SIGUSR1', 'SIGINT'):
        yield Case(f'{name} in training', 'fresh', 'train', at_operation(name))
        yield Case(f'{name} in training', 'fresh', 'train', at_moment(name))
        yield Case(f'{name} in fitting', 'fresh', 'fit', at_operation(name))
        yield Case('signal in storing', 'fitted', 'store', at_operation(name))
        yield Case('signal in export', 'finished', 'export', at_operation(name))
        draw = in_one_rank(name)
        yield Case('signal to one rank', 'fresh', 'train on two ranks', draw, may_refuse=True)
    for names in (('SIGTERM', 'SIGTERM'), ('SIGINT', 'SIGINT'), ('SIGTERM', 'SIGKILL')):
        row = 'two signals in training'
        yield Case(row, 'fresh', 'train', at_operation(*names))
        yield Case(row, 'fresh', 'train with workers', at_moment(*names))


def _limits() -> Iterator[Case]:
    for stage in ('fitted', 'half', 'fresh'):
        yield Case('disk full', stage, 'train', full_disk, may_refuse=True)
    yield Case('write error', 'fresh', 'train', in_write(kills=False), may_refuse=True)
    yield Case('few file handles', 'fresh', 'train', few_handles, may_refuse=True)
    yield Case('little memory', 'fresh', 'train', little_memory, may_refuse=True)
    yield Case('little memory', 'fresh', 'fit', little_memory, may_refuse=True)
    yield Case('full disk in storing', 'fitted', 'store', full_disk_in_storing, may_refuse=True)
    yield Case('few file handles', 'fresh', 'fit', few_handles, may_refuse=True)


def _two() -> Iterator[Case]:
    for first, second in (
        ('train', 'train'),
        ('fit', 'fit'),
        ('train', 'fit'),
        ('fit', 'train'),
    ):
        yield Case('two at once', 'fresh', first, beside(second), may_refuse=True)
    yield Case('two at once', 'fitted', 'store', beside('store'), may_refuse=True)
    yield Case('two at once', 'finished', 'train', beside('export'), True, 'work')
    yield Case('two at once', 'finished', 'export', beside('export'), True)


#: What is damaged: row of the table, stage, file, the commands that read it.
READ = (
    ('checkpoint', 'half', 'work/epoch_*.pth', ('train',)),
    ('checkpoint', 'interrupted', 'work/interrupted.pth', ('train',)),
    ('checkpoint', 'finished', 'work/epoch_3.pth', ('export', 'test', 'train')),
    ('last_checkpoint', 'half', 'work/last_checkpoint', ('train',)),
    ('last_checkpoint', 'interrupted', 'work/last_checkpoint', ('train',)),
    ('decision file', 'half', 'work/decisions/*.safetensors', ('train', 'fit')),
    ('state of fitting', 'fitting', 'work/decisions/mmkdlayer_fitting_*/*.npz', ('train', 'fit')),
    ('cache of fitting', 'fitting', 'work/decisions/mmkdlayer_fitting_*/*.bin', ('train', 'fit')),
    ('stored decisions', 'stored', 'work/store/*/*', ('store',)),
    ('teacher.pth', 'fresh', 'teacher.pth', ('train', 'fit')),
    ('student.pth', 'exported', 'student/student.pth', ('test the student',)),
)
#: Nothing can tell another image or config from the right one: these must end well, no more.
UNCHECKED = (
    ('training image', 'fresh', 'data/train/*/*.png', 'train'),
    ('validation image', 'fresh', 'data/val/*/*.png', 'train'),
    ('config', 'fresh', 'config.py', 'train'),
    ('student.py', 'exported', 'student/student.py', 'test the student'),
)


def _damages() -> Iterator[Case]:
    for row, stage, pattern, commands in READ:
        for command in commands:
            # Where the last checkpoint is lost, the best one has no optimiser; an export can't
            # tell a checkpoint from another one.
            is_checkpoint = row == 'checkpoint'
            draw = damaged(pattern, siblings=not is_checkpoint or command == 'train')
            yield Case(f'damaged {row}', stage, command, draw, True, may_differ=is_checkpoint)
    read = damaged_meanwhile('work/decisions/inter.safetensors', 'teacher.pth')
    written = damaged_meanwhile('work/last_checkpoint', 'work/epoch_*.pth', 'work/best_*.pth')
    for stage, draw in (('fitted', read), ('fresh', read), ('fitted', written), ('half', written)):
        yield Case('damaged while training', stage, 'train', draw, True, 'work/epoch_3')
    fitting = 'work/decisions/mmkdlayer_fitting_*'
    for pattern in (f'{fitting}/*.npz', f'{fitting}/*.bin'):
        draw = damaged_meanwhile(pattern)
        yield Case('damaged while fitting', 'fresh', 'fit', draw, may_refuse=True)
    for row, stage, pattern, command in UNCHECKED:
        yield Case(f'damaged {row}', stage, command, damaged(pattern), True, 'nothing')


#: One round of trials: kills are half of them.
CASES = (*tuple(_kills()) * 5, *_ranks(), *_signals(), *_limits(), *_two(), *_damages())
