"""One progress bar over all trainings of a study, with the time that is left."""

from __future__ import annotations

import sys
import time
from datetime import timedelta

from tqdm import tqdm

from .curves import pace, progress
from .running import Board

#: Seconds between two looks at the logs: on a terminal, and where lines go to a file.
EVERY, EVERY_IN_FILE = 2.0, 60.0


class StudyBar:
    """Shows epochs of all trainings (iterations of those without), what runs, and the time left."""

    def __init__(self, board: Board, jobs: int) -> None:
        self.board, self.jobs = board, jobs
        self.names = [name for name, task in board.tasks.items() if task.kind == 'train']
        self.total = sum(board.tasks[name].length for name in self.names)
        self.every = EVERY if sys.stderr.isatty() else EVERY_IN_FILE
        self.seen = dict.fromkeys(self.names, 0.0)
        self.bar = tqdm(
            total=self.total,
            mininterval=0,
            bar_format='{desc} {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} epochs {postfix}',
        )
        self.next = 0.0
        self.rates: dict[str, float] = {}
        self.before = set(board.done), dict(board.failed)

    def __call__(self) -> None:
        """Look at the logs, if it is time for it, and say what has ended."""
        done, failed = self.before
        for name in sorted(self.board.done - done):
            self.bar.write(f'done: {name}', file=sys.stderr)
        for name in self.board.failed.keys() - failed.keys():
            self.bar.write(f'FAILED: {name}: {self.board.failed[name]}', file=sys.stderr)
        changed = (set(self.board.done), dict(self.board.failed)) != self.before
        self.before = set(self.board.done), dict(self.board.failed)
        if time.monotonic() < self.next and not changed:
            return
        self.next = time.monotonic() + self.every
        for name in self.names:
            if name in self.board.done:
                self.seen[name] = self.board.tasks[name].length
            elif name in self.board.running:
                self.seen[name] = progress(self.board.tasks[name].folder(self.board.out))
        self.bar.n = round(sum(self.seen.values()))
        left = self.remaining_seconds()
        words = f'left {timedelta(seconds=round(left))}' if left is not None else 'left: not known'
        running = ', '.join(sorted(self.board.running))
        self.bar.set_description_str(f'{len(self.board.done)} done', refresh=False)
        self.bar.set_postfix_str(f'{words} [{running[:60]}]')

    def remaining_seconds(self) -> float | None:
        """Time left: what is left of each training, at the pace of its row, else of all rows.

        None before any step was logged. Fitting, exporting and tests are not counted.
        """
        tasks = self.board.tasks
        for name, begun in self.seen.items():
            if begun and (name in self.board.running or name not in self.rates):
                seconds = pace(tasks[name].folder(self.board.out))
                if seconds:
                    self.rates[name] = seconds
        if not self.rates:
            return None
        rows: dict[str, list[float]] = {}
        for name, rate in self.rates.items():
            rows.setdefault(tasks[name].row, []).append(rate)
        paces = {row: sum(rates) / len(rates) for row, rates in rows.items()}
        other = sum(paces.values()) / len(paces)
        left = (
            (tasks[name].length - seen) * paces.get(tasks[name].row, other)
            for name, seen in self.seen.items()
            if name not in self.board.failed
        )
        return sum(left) / self.jobs

    def close(self) -> None:
        """End the bar."""
        self.bar.close()
