#!/usr/bin/env python
"""Break runs of the real commands at random, and check what comes of it; CONTRIBUTING.md says more."""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults.processes import preload

preload()

from faults.cases import CASES  # noqa: E402
from faults.injections import unmount_below  # noqa: E402
from faults.results import ResultsFile, describe, table  # noqa: E402
from faults.stages import Stages  # noqa: E402
from faults.trial import Result, Trial, case_of  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--trials', type=int, default=100, help='how many (default: 100)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--only', type=int, nargs='+', metavar='NUMBER', help='these trials alone')
    parser.add_argument('--kinds', nargs='+', metavar='WORD', help='kinds with one of these words')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='trials at once')
    parser.add_argument('--out', type=Path, help='default: work_dirs/faults/seed<S>')
    parser.add_argument('--keep', action='store_true', help='keep the folders of all trials')
    args = parser.parse_args()
    args.out = (args.out or Path('work_dirs', 'faults', f'seed{args.seed}')).resolve()
    return args


def main() -> int:
    """Exit code 0 where there is no fault, 1 where there is one, 130 after Ctrl-C."""
    args = parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    unmount_below(args.out)
    file = ResultsFile(args.out / 'results.json', args.seed)
    stages = Stages(args.out / f'stages-{file.origin["code"]}')
    wanted = args.only or list(itertools.islice(chosen(args), args.trials))
    left = [n for n in wanted if args.only or n not in file.results]
    stages.build({case_of(number, args.seed).command for number in left})
    if len(left) < len(wanted):
        print(f'{len(wanted) - len(left)} of {len(wanted)} trials were done before.')
    code = 0
    try:
        work(left, args, stages, file)
    except KeyboardInterrupt:
        print('\nInterrupted: the same command continues from here.')
        code = 130
    found = [file.results[number] for number in wanted if number in file.results]
    if found:
        print(f'\n{table(found)}')
    return code or int(any(result.outcome == 'fault' for result in found))


def chosen(args: argparse.Namespace) -> Iterator[int]:
    """The numbers of the trials that ``--kinds`` includes."""
    words = args.kinds or ['']
    if not any(word in case.kind for word in words for case in CASES):
        raise SystemExit(
            f'No kind has one of the words {words}: {sorted({c.kind for c in CASES})}.'
        )
    for number in itertools.count():
        kind = case_of(number, args.seed).kind
        if any(word in kind for word in words):
            yield number


def work(
    numbers: Sequence[int], args: argparse.Namespace, stages: Stages, file: ResultsFile
) -> None:
    """Do trials, some at a time, each in a process of its own."""
    context = multiprocessing.get_context('fork')
    waiting, running = list(numbers), {}  # type: ignore[var-annotated]
    began, done = time.monotonic(), 0
    try:
        while waiting or running:
            while waiting and len(running) < args.workers:
                number = waiting.pop(0)
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(
                    target=_one, args=(number, args.seed, stages, _folder(args, number), sender)
                )
                process.start()
                sender.close()
                running[number] = process, receiver
            for number, (process, receiver) in list(running.items()):
                process.join(0.02)
                if process.is_alive() and not receiver.poll():
                    continue
                result = receiver.recv()
                process.join()
                del running[number]
                done += 1
                file.add(result)
                spent = time.monotonic() - began
                print(
                    f'[{done}/{len(numbers)}, {spent:.0f} s] {number}: {result.kind}: '
                    f'{result.outcome}',
                    flush=True,
                )
                if result.outcome == 'fault':
                    print(describe(result, args.seed), flush=True)
                elif not args.keep and not args.only:
                    shutil.rmtree(_folder(args, number))
    finally:
        for process, _ in running.values():
            process.terminate()
            process.join()


def _folder(args: argparse.Namespace, number: int) -> Path:
    return args.out / 'trials' / str(number)


def _one(number: int, seed: int, stages: Stages, folder: Path, sender) -> None:  # noqa: ANN001
    """In a process of its own: one trial."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what it has started ends with it
    try:
        result = Trial(number, seed, stages, folder).run()
    except KeyboardInterrupt:
        os._exit(1)
    except Exception:  # a fault of the harness, which must not end the other trials
        kind, reason = case_of(number, seed).kind, traceback.format_exc()
        result = Result(number, kind, 'the harness itself failed', 'fault', [reason])
    sender.send(result)


if __name__ == '__main__':
    sys.exit(main())
