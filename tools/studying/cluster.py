"""The tasks of a study as arrays of Slurm: submitted as they can begin, and watched."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mmkdlayer.atomic import replacing
from mmkdlayer.engine.fingerprints import hash_json
from mmkdlayer.errors import ConfigError
from mmkdlayer.plain_json import parse_json

from .one_task import FAILED, RESULT
from .running import SCRIPT, Board, SignalFlag, Stopped
from .tasks import Task

#: Seconds between two questions to Slurm.
STEP = 5.0
#: Looks after which a job that has ended without a result has failed: a shared disk may be late.
PATIENCE = 3
#: States of jobs that will not run again.
ENDED = {
    *('BOOT_FAIL', 'CANCELLED', 'COMPLETED', 'DEADLINE', 'FAILED', 'NODE_FAIL', 'OUT_OF_MEMORY'),
    *('REVOKED', 'TIMEOUT'),
}
# As in docs/clusters.md: what a signal has ended is saved, and the job continues from there.
JOB = """#!/bin/bash
#SBATCH --job-name={name} --open-mode=append
#SBATCH --ntasks=1 --requeue --signal=USR1@120
export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-${{SLURM_CPUS_PER_TASK:-1}}}}
srun --ntasks=1 --cpus-per-task="${{SLURM_CPUS_PER_TASK:-1}}" \\
    {python} -W ignore {script} {batch} "$SLURM_ARRAY_TASK_ID"
code=$?
if [ "$code" -eq 75 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
"""


class Arrays:
    """The arrays that were submitted for a study, also by an earlier start of it.

    Each has a job name of its own, made of the study's folder and a number, and a file with the names of
    its tasks: so a study that is started again finds what is still in the queue.
    """

    def __init__(self, out: Path, options: list[str], limit: int | None) -> None:
        self.out, self.options, self.limit = out, options, limit
        self.folder = out / 'slurm'
        self.prefix = f'study-{hash_json(str(out))[:8]}-'

    def batches(self) -> dict[int, list[str]]:
        """The names of the tasks of each array."""
        files = {
            int(path.stem.rpartition('-')[2]): path for path in self.folder.glob('batch-*.json')
        }
        return {number: parse_json(path.read_text()) for number, path in sorted(files.items())}

    def names(self) -> str:
        """The names of the arrays, as Slurm's commands take them."""
        return ','.join(f'{self.prefix}{number}' for number in self.batches())

    def submit(self, tasks: list[Task]) -> None:
        """Submit an array of some tasks.

        Raises:
            ConfigError: Slurm refuses it.
        """
        number = max(self.batches(), default=0) + 1
        batch, name = self.folder / f'batch-{number}.json', f'{self.prefix}{number}'
        for task in tasks:
            task.write(self.out)
            (task.folder(self.out) / FAILED).unlink(missing_ok=True)
        with replacing(batch) as file:
            file.write_text(json.dumps([task.name for task in tasks], indent=1))
        words = {'python': sys.executable, 'script': SCRIPT, 'batch': batch}
        quoted = {key: shlex.quote(str(word)) for key, word in words.items()}
        script = self.folder / f'{name}.sh'
        script.write_text(JOB.format(name=name, **quoted))
        limit = f'%{self.limit}' if self.limit else ''
        array = f'--array=0-{len(tasks) - 1}{limit}'
        output = f'--output={str(self.folder).replace("%", "%%")}/%x-%a.out'
        done = call(['sbatch', '--parsable', output, *self.options, array, str(script)])
        if done.returncode:
            batch.unlink()
            raise ConfigError(
                f'sbatch refused {script}: {done.stderr.strip()}. Give what your cluster asks for with '
                "--sbatch='--partition=NAME --gpus=1 --cpus-per-task=8 --time=08:00:00'."
            )

    def states(self) -> dict[str, str] | None:
        """The state of each task that Slurm knows, by its last array; None if Slurm does not answer."""
        batches, names = self.batches(), self.names()
        if not names:
            return {}
        line = [
            'squeue',
            '--noheader',
            '--array',
            '--states=all',
            f'--name={names}',
            '-o',
            '%j|%K|%T',
        ]
        done = call(line)
        if done.returncode:
            return None
        found: dict[tuple[int, str], str] = {}
        for text in done.stdout.split():
            name, index, state = text.split('|')
            number = int(name.rpartition('-')[2])
            if index.isdigit() and int(index) < len(batches[number]):
                found[number, batches[number][int(index)]] = state
        return {name: state for (_, name), state in sorted(found.items())}


def call(line: list[str]) -> subprocess.CompletedProcess:
    """Run a command of Slurm.

    Raises:
        ConfigError: It is not there.
    """
    try:
        return subprocess.run(line, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ConfigError(
            f'--launcher slurm expects Slurm, but there is no {line[0]}. Start it on a login node, or '
            'leave the option out.'
        ) from error


def run_on_slurm(board: Board, arrays: Arrays, report: Callable[[], None]) -> None:
    """Submit the tasks as they can begin and watch them; ended ones are noted on the board.

    ``report`` is called after each look, to show how far they are.

    Raises:
        ConfigError: Slurm is not there or refuses.
        Stopped: A signal has come; the jobs continue.
    """
    missed: dict[str, int] = {}
    with SignalFlag() as flag:
        while flag.number is None:
            states = arrays.states()
            if states is not None:
                alive = {name for name, state in states.items() if state not in ENDED}
                board.running |= alive & board.needed - board.done - board.failed.keys()
                for name in sorted(board.running):
                    folder = board.tasks[name].folder(board.out)
                    missed[name] = 0 if name in alive else missed.get(name, 0) + 1
                    is_noted = any((folder / file).exists() for file in (RESULT, FAILED))
                    if name not in alive and (is_noted or missed[name] > PATIENCE):
                        state = states.get(name, 'gone')
                        board.settle(name, f'its job is {state}; see {arrays.folder}, {folder}')
                if waiting := board.ready():
                    arrays.submit(waiting)
                    board.running.update(task.name for task in waiting)
            report()
            if board.is_finished:
                return
            end = time.monotonic() + STEP
            while flag.number is None and time.monotonic() < end:
                time.sleep(0.2)
    raise Stopped(flag.number)
