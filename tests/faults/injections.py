"""What is done to a command: signals, limits, damaged files, a second command beside it."""

from __future__ import annotations

import functools
import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from .processes import Child, Ended

Start = Callable[..., Child]


@dataclass
class Injection:
    """Nothing at all; subclasses say what and when."""

    #: Signals that may end the command.
    signals: tuple[str, ...] = field(default=(), init=False, repr=False)
    #: The process of a distributed command that it happens to.
    rank: int = field(default=0, init=False)
    #: What an error must name.
    named: str = field(default='', init=False, repr=False)
    #: A file that may stay as it is, where nothing needs it.
    spoils: str = field(default='', init=False, repr=False)

    def before(self, folder: Path) -> None:
        """Change files before the command starts."""

    def enter(self, folder: Path) -> None:
        """Called in each process of the command, before it begins."""
        if int(os.environ.get('RANK', 0)) == self.rank:
            self.arm(folder)

    def arm(self, folder: Path) -> None:
        """Called in the process that it happens to."""

    def during(self, child: Child, start: Start) -> list[Ended]:
        """Called while the command runs; the ends of other commands that it has started."""
        return []

    def after(self, folder: Path) -> None:
        """Undo what kept the command from ending well."""


class Operations:
    """Watches the file operations of this process below its working directory.

    Args:
        act: Called before each one with its number, from 1, and its description.
    """

    EVENTS = frozenset(
        ['open', 'os.rename', 'os.remove', 'os.mkdir', 'os.rmdir', 'os.truncate', 'os.chmod']
        + ['os.listdir', 'os.scandir', 'os.link', 'os.symlink']
    )

    def __init__(self, act: Callable[[int, str], None]) -> None:
        self.root = os.getcwd() + os.sep
        self.count = 0
        self.act = act
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple) -> None:
        if event not in self.EVENTS or not isinstance(arguments[0], (str, os.PathLike)):
            return
        path = os.path.join(self.root, arguments[0])
        if path.startswith(self.root):
            self.count += 1
            self.act(self.count, f'{event} {path[len(self.root) :]}')


@dataclass
class Recording(Injection):
    """Writes the file operations of a command down."""

    file: Path

    def arm(self, folder: Path) -> None:
        descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        Operations(lambda number, text: _write_line(descriptor, text))


def _write_line(descriptor: int, text: str) -> None:
    os.write(descriptor, f'{text}\n'.encode())


@dataclass
class SignalAtOperation(Injection):
    """The process gets signals just before its n-th file operation (and the ones given)."""

    names: tuple[str, ...]
    numbers: tuple[int, ...]

    def __post_init__(self) -> None:
        self.signals = self.names

    def arm(self, folder: Path) -> None:
        plan = dict(zip(self.numbers, self.names))

        def act(number: int, text: str) -> None:
            if number in plan:
                os.kill(os.getpid(), signal.Signals[plan[number]])

        Operations(act)


@dataclass
class SignalAtMoment(Injection):
    """The process gets signals after so many seconds each."""

    names: tuple[str, ...]
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        self.signals = self.names

    def during(self, child: Child, start: Start) -> list[Ended]:
        for name, moment in zip(self.names, self.seconds):
            child.sleep_until(moment)
            child.send(signal.Signals[name])
        return []


@dataclass
class FileSizeLimit(Injection):
    """No file grows over so many bytes: the process is killed within a write, or gets an error."""

    size: int
    kills: bool

    def __post_init__(self) -> None:
        self.signals = ('SIGXFSZ',) if self.kills else ()

    def arm(self, folder: Path) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if self.kills else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))


@dataclass
class HandleLimit(Injection):
    """Only so many more files can be open at once."""

    more: int

    def arm(self, folder: Path) -> None:
        used = set(map(int, os.listdir('/proc/self/fd')))
        free = (number for number in itertools.count() if number not in used)
        limit = next(itertools.islice(free, self.more, None)) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


@dataclass
class MemoryLimit(Injection):
    """The process can take only so many more bytes of memory."""

    more: int

    def arm(self, folder: Path) -> None:
        pages = int(Path('/proc/self/statm').read_text().split()[0])
        limit = pages * resource.getpagesize() + self.more
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@dataclass
class FullDisk(Injection):
    """The work dir is a disk of its own with so many bytes left, and a larger one afterwards; root."""

    left: int

    def before(self, folder: Path) -> None:
        work = folder / 'work'
        work.mkdir(exist_ok=True)
        aside = folder.with_name(folder.name + '-aside')
        shutil.copytree(work, aside)
        used = sum(path.stat().st_size // 4096 + 2 for path in work.rglob('*')) * 4096
        _mount(f'size={used + self.left}', 'tmpfs', work)
        shutil.copytree(aside, work, dirs_exist_ok=True)
        shutil.rmtree(aside)

    def after(self, folder: Path) -> None:
        _mount('remount,size=1g', 'tmpfs', folder / 'work')


def _mount(options: str, source: str, target: Path) -> None:
    subprocess.run(['mount', '-t', 'tmpfs', '-o', options, source, str(target)], check=True)


@functools.lru_cache
def can_mount(folder: Path) -> bool:
    """Whether this user may mount."""
    place = folder / 'mount'
    place.mkdir(parents=True, exist_ok=True)
    try:
        _mount('size=64k', 'tmpfs', place)
    except (OSError, subprocess.CalledProcessError):
        return False
    subprocess.run(['umount', str(place)], check=True)
    return True


def unmount_below(folder: Path) -> None:
    """Unmount what trials have mounted."""
    for line in Path('/proc/mounts').read_text().splitlines():
        target = line.split()[1].replace('\\040', ' ')
        if target.startswith(f'{folder}/'):
            subprocess.run(['umount', '-l', target], check=True)


@dataclass
class Beside(Injection):
    """Another command is started so many seconds after this one; it may be refused."""

    command: str
    seconds: float

    def during(self, child: Child, start: Start) -> list[Ended]:
        child.sleep_until(self.seconds)
        other = start(self.command)
        try:
            return [other.wait()]
        finally:
            other.kill()
