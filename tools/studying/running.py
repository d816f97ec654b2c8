"""The tasks of a study on this machine: some at once, in their order, as soon as they can begin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mmkdlayer.errors import DataError

from . import one_task
from .one_task import FAILED, INTERRUPTED, LOG, RESULT
from .tasks import Task

SCRIPT = Path(one_task.__file__)
#: Seconds between two looks at the running tasks.
STEP = 0.2


class Board:
    """Which tasks are waiting, running, done or failed.

    Attributes:
        out: The study's folder.
        tasks: All, by name, in the order of their start.
        failed: Name to reason; of tasks too that wait for failed ones.
    """

    def __init__(self, out: Path, tasks: list[Task]) -> None:
        self.out = out
        self.tasks = {task.name: task for task in tasks}
        self.failed: dict[str, str] = {}
        self.running: set[str] = set()
        self.done = {task.name for task in tasks if (task.folder(out) / RESULT).exists()}
        self.needed = self._needed()

    def _needed(self) -> set[str]:
        """What is still to be done: trainings, and what they wait for."""
        found = {n for n, task in self.tasks.items() if task.kind == 'train' and n not in self.done}
        while (
            more := {need for name in found for need in self.tasks[name].needs} - found - self.done
        ):
            found |= more
        return found

    def ready(self) -> list[Task]:
        """Those that can begin now."""
        waiting = self.needed - self.done - self.running - self.failed.keys()
        return [
            task
            for name, task in self.tasks.items()
            if name in waiting and self.done.issuperset(task.needs)
        ]

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left that could be done."""
        return not self.running and not self.ready()

    def settle(self, name: str, reason: str = '') -> None:
        """Note that a task has ended: with a result, or failed, and with it those that need it."""
        self.running.discard(name)
        task = self.tasks[name]
        try:
            if task.result(self.out) is not None:
                self.done.add(name)
                return
            self.failed[name] = task.failure(self.out) or reason
        except DataError as error:
            self.failed[name] = str(error)
        self.settle_dependants(name)

    def settle_dependants(self, name: str) -> None:
        """Give up what waits for a task that was given up."""
        for other in self.tasks.values():
            if name in other.needs and other.name not in self.failed and other.name in self.needed:
                self.failed[other.name] = f'{name} failed, which it needs'
                self.settle_dependants(other.name)


class Stopped(Exception):  # noqa: N818
    """A signal has asked to end; what was running is saved."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class SignalFlag:
    """Notes SIGINT and SIGTERM while it is used as a context; a second Ctrl-C ends the process."""

    number: int | None = None

    def __enter__(self) -> SignalFlag:
        self._before = {n: signal.signal(n, self._note) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _note(self, number: int, _: Any) -> None:
        if self.number is not None and number == signal.SIGINT:
            os._exit(130)
        self.number = number

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def run_here(board: Board, jobs: int, report: Callable[[], None]) -> None:
    """Run the tasks on this machine, ``jobs`` at once; ended ones are noted on the board.

    Each gets its share of the cores (``OMP_NUM_THREADS``), and of several GPUs one. ``report`` is
    called after each look, to show how far they are.

    Raises:
        Stopped: A signal has come; the running tasks have saved their state.
    """
    slots: list[tuple[str, subprocess.Popen] | None] = [None] * jobs
    with SignalFlag() as flag:
        while flag.number is None:
            for index, slot in enumerate(slots):
                if slot is not None and slot[1].poll() is not None:
                    name, process = slot
                    board.settle(name, f'it ended with exit code {process.returncode}')
                    slots[index] = None
                waiting = board.ready()
                if slots[index] is None and waiting:
                    board.running.add(waiting[0].name)
                    slots[index] = waiting[0].name, start(waiting[0], board.out, index, jobs)
            report()
            if board.is_finished:
                return
            time.sleep(STEP)
        for _, process in filter(None, slots):
            process.terminate()
        for name, process in filter(None, slots):
            if process.wait() not in (0, *INTERRUPTED):
                board.settle(name, f'it ended with exit code {process.returncode}')
    raise Stopped(flag.number)


def start(task: Task, out: Path, slot: int, jobs: int) -> subprocess.Popen:
    """Start one task as a process of its own."""
    task.write(out)
    folder = task.folder(out)
    (folder / FAILED).unlink(missing_ok=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    env = dict({'OMP_NUM_THREADS': str(max(1, (cores or 1) // jobs))}, **os.environ)
    env[one_task.PARENT] = str(os.getpid())
    listed = os.environ.get('CUDA_VISIBLE_DEVICES', '')
    gpus = listed.split(',') if listed else list(map(str, range(torch.cuda.device_count())))
    if len(gpus) > 1:
        env['CUDA_VISIBLE_DEVICES'] = gpus[slot % len(gpus)]
    with (folder / LOG).open('a') as log:
        return subprocess.Popen(
            [sys.executable, '-W', 'ignore', str(SCRIPT), str(folder)],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=env,
            start_new_session=True,  # Ctrl-C reaches this process, which tells the others
        )
