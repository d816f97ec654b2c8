"""One trial: a job, an injection, what the user does next, and what came of it."""

from __future__ import annotations

import random
import shutil
import signal
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from .cases import CASES, Case
from .checks import differences, message, problems, results, warned_of
from .injections import Injection, unmount_below
from .processes import Child, Ended
from .stages import Stages

#: Codes that a signal is answered with, apart from a death by it.
ANSWERS = {'SIGTERM': 75, 'SIGUSR1': 75, 'SIGINT': 130}


@dataclass
class Result:
    """What came of a trial: ``outcome`` is survived, refused or fault, ``reasons`` say why."""

    number: int
    kind: str
    what: str
    outcome: str = 'survived'
    reasons: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    seconds: float = 0.0


def case_of(number: int, seed: int) -> Case:
    """The case of a trial: each round has all cases, in an order of its own."""
    turn, place = divmod(number, len(CASES))
    order = list(CASES)
    random.Random(f'{seed}/{turn}').shuffle(order)
    return order[place]


class Trial:
    """A trial in a folder of its own: ``job``, and the logs of each start beside it."""

    def __init__(self, number: int, seed: int, stages: Stages, folder: Path) -> None:
        self.case = case_of(number, seed)
        self.number = number
        self.stages = stages
        self.folder, self.job = folder, folder / 'job'
        self.rng = random.Random(f'{seed}/trial {number}')
        self.starts = 0
        self.warned = False

    def run(self) -> Result:
        """Do it. The folder stays."""
        case, began = self.case, time.monotonic()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.stages.copy(case.stage, self.job)
        expected = self.stages.expected(case.command)
        injections = [
            case.draw(self.rng, self.stages, case, self.job) for _ in range(case.again + 1)
        ]
        what = f'{case.command}, {case.stage}: ' + ', then '.join(map(repr, injections))
        result = Result(self.number, case.kind, what)
        try:
            for injection in injections:
                if self._disturb(injection, result):
                    break
            else:
                child = self._start(case.command)
                try:
                    self._check_end(child.wait(), Injection(), result, 'afterwards')
                finally:
                    child.kill()
            found = results(self.job, case.command)
            result.reasons += [
                text
                for name, text in differences(found, expected)
                if name.startswith(case.compared)
                and not ('is left' in text and name == injections[0].spoils)
                and not ('another content' in text and case.may_differ and self.warned)
            ]
        finally:
            unmount_below(self.folder)
        if result.reasons:
            result.outcome = 'fault'
        elif result.messages:
            result.outcome = 'refused'
        result.seconds = time.monotonic() - began
        return result

    def _start(self, command: str, injection: Injection | None = None) -> Child:
        self.starts += 1
        logs = self.folder / f'{self.starts}-{command.replace(" ", "-")}'
        arm = partial(injection.enter, self.job) if injection else None
        return Child(self.job, command, logs, arm)

    def _disturb(self, injection: Injection, result: Result) -> bool:
        """Run the command with an injection; whether it ended with success all the same."""
        injection.before(self.job)
        child = self._start(self.case.command, injection)
        try:
            others = injection.during(child, self._start)
            ended = child.wait()
        finally:
            child.kill()
        self._check_end(ended, injection, result, 'disturbed')
        self.warned = warned_of(ended, injection.named)
        for other in others:
            self._check_end(other, injection, result, 'the other one')
        if ended.code != 0:
            injection.after(self.job)
        return ended.code == 0

    def _check_end(self, ended: Ended, injection: Injection, result: Result, when: str) -> None:
        allowed = [ANSWERS[name] for name in injection.signals if name in ANSWERS]
        deaths = [-signal.Signals[name] for name in injection.signals]
        fatal = set(injection.signals) & {'SIGKILL', 'SIGXFSZ'} or self.case.command == 'export'
        if fatal or not (self.job / 'work').exists():
            allowed += deaths  # nothing has begun yet, or there is nothing to save
            if ended.code in (*deaths, 130) and not (self.job / 'work').exists():
                return
        result.reasons += [f'{when}: {text}' for text in problems(ended, tuple(allowed))]
        if ended.code == 2:
            if self.case.may_refuse and when != 'afterwards':
                result.messages.append(message(ended))
                if injection.named not in message(ended):
                    result.reasons.append(f'{injection.named} is not named: {message(ended)}')
            else:
                result.reasons.append(f'{when}: refused: {message(ended)}')
