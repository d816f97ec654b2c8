"""Job folders in several states, made once, that trials copy; and the run that nobody disturbed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Collection
from functools import partial
from pathlib import Path

from .checks import results
from .injections import Injection, Recording, SignalAtOperation
from .job import CLASSES, EPOCHS, TRAIN, write_job
from .processes import Child

IMAGES = CLASSES * TRAIN
#: A training that gets a signal: its name, and the training image (of all that are read) at which.
SIGNALLED = {
    'fitting': ('SIGKILL', -EPOCHS * IMAGES - 2),
    'interrupted': ('SIGTERM', -IMAGES - IMAGES // 2),
    'half': ('SIGKILL', -IMAGES // 2),
}
#: For each command the stage that it begins with, and the one that it makes.
MADE = {
    'train': ('fresh', 'finished'),
    'train with workers': ('fresh', 'finished with workers'),
    'train on two ranks': ('fresh', 'finished on two ranks'),
    'fit': ('fresh', 'fitted'),
    'store': ('fitted', 'stored'),
    'store with workers': ('fitted', 'stored with workers'),
    'store on two ranks': ('fitted', 'stored on two ranks'),
    'store on three ranks': ('fitted', 'stored on three ranks'),
    'export': ('finished', 'exported'),
    'test': ('finished', 'tested'),
    'test the student': ('exported', 'student tested'),
}


class Stages:
    """The states of a job that trials begin with, and what came of commands that nobody disturbed.

    ``fresh``; ``fitting`` (killed in it); ``fitted``; ``half`` (killed in the last epoch);
    ``interrupted`` (saved within an epoch); ``finished``; ``exported``.

    Args:
        folder: Where they are, each in a folder of its own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def copy(self, stage: str, target: Path) -> None:
        """Make a job of a stage: a copy that keeps times, or what is done in ``target`` to a copy.

        The latter where files depend on their place: the folder of a fitting, ``last_checkpoint``.
        """
        if stage in SIGNALLED:
            name, place = SIGNALLED[stage]
            operations = enumerate(self.operations('train'), 1)
            images = [number for number, text in operations if text.startswith('open data/train')]
            self._run(target, 'fresh', 'train', SignalAtOperation((name,), (images[place],)))
            return
        source = self.folder / stage
        shutil.copytree(source, target, symlinks=True)
        last = target / 'work' / 'last_checkpoint'
        if last.exists():
            last.write_text(last.read_text().replace(str(source), str(target)))

    def operations(self, command: str) -> list[str]:
        """The file operations of a command."""
        return (self.folder / f'{command}.operations').read_text().splitlines()

    def seconds(self, command: str) -> float:
        """How long a command took."""
        return float((self.folder / f'{command}.seconds').read_text())

    def expected(self, command: str) -> dict[str, str]:
        """The results of a command; those of storing are the same for any number of processes."""
        name = 'store' if command.startswith('store') else command
        return json.loads((self.folder / f'{name}.results').read_text())

    def build(self, commands: Collection[str]) -> None:
        """Run these commands undisturbed, and those that they build on, unless it was done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / 'fresh').exists():
            write_job(self.folder / 'fresh')
        needed = {'train', 'fit', *commands}
        if 'test the student' in needed:
            needed.add('export')
        if any(command.startswith('store') for command in needed):
            needed.add('store')
        for command, (before, after) in MADE.items():
            made = self.folder / f'{command}.results'
            if command not in needed or made.exists():
                continue
            shutil.rmtree(self.folder / after, ignore_errors=True)
            began = time.monotonic()
            recording = Recording(self.folder / f'{command}.operations')
            self._run(self.folder / after, before, command, recording)
            (self.folder / f'{command}.seconds').write_text(str(time.monotonic() - began))
            made.write_text(json.dumps(results(self.folder / after, command)))

    def _run(self, target: Path, before: str, command: str, injection: Injection) -> None:
        self.copy(before, target)
        logs = target.with_name(f'{target.name}-{command}')
        ended = Child(target, command, logs, partial(injection.enter, target)).wait()
        expected = {(): 0, ('SIGKILL',): -9, ('SIGTERM',): 75}[injection.signals]
        if ended.code != expected:
            raise RuntimeError(
                f'{target}: "{command}" ended with {ended.code}, not {expected}:\n'
                f'{ended.output[-2000:]}\n{ended.errors[-2000:]}'
            )
