#!/usr/bin/env python
"""Train several configs with several seeds, and write their results and a page that compares them."""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path

import cli
import mmkdlayer  # noqa: F401  (makes the host libraries work, registers this plugin)
from mmkdlayer.engine.locks import folder_lock
from mmkdlayer.errors import ConfigError
from studying.bar import StudyBar
from studying.cluster import Arrays, run_on_slurm
from studying.finishing import remove_checkpoints
from studying.forecast import forecast
from studying.page import write_page, write_tables
from studying.planning import choose, plan
from studying.results import check_metric, check_name, read_results, write_results
from studying.running import Board, Stopped, run_here
from studying.study_file import Study, read_study
from studying.tasks import Task, check_begun

#: Seconds to wait for another study in the same folder: one that was killed may still hold it.
LOCK_PATIENCE = 20.0


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('study', help='study file, such as studies/cifar100.py')
    parser.add_argument('--out', required=True, help='folder for all that is trained and written')
    parser.add_argument(
        '--jobs',
        type=cli.whole_number(),
        metavar='N',
        help='how many trainings at once (default: 1; with Slurm no limit)',
    )
    parser.add_argument(
        '--launcher',
        choices=('none', 'slurm'),
        default='none',
        help='slurm: submit arrays of jobs and watch them (default: none, on this machine)',
    )
    parser.add_argument(
        '--sbatch',
        default='',
        metavar='OPTIONS',
        help="what a job gets, as one word: --sbatch='--partition=gpu --gpus=1 --time=08:00:00'",
    )
    parser.add_argument('--data-root', help='folder of the data, for all configs')
    parser.add_argument(
        '--rows',
        nargs='+',
        metavar='ROW',
        help='train these rows alone, with what they need (default: all)',
    )
    parser.add_argument(
        '--delete-checkpoints',
        action='store_true',
        help='remove what a training has saved as soon as its student is exported',
    )
    parser.add_argument(
        '--dry-run', action='store_true', help='say runs, estimated time and disk, and do nothing'
    )
    parser.add_argument(
        '--page-only', action='store_true', help='write the page from OUT/results.json alone'
    )
    parser.add_argument(
        '--tables',
        metavar='FILE',
        help='with --page-only: also put the tables into this markdown file, between its lines '
        '"<!-- begin study NAME -->" (or "<!-- begin study NAME: ROW ROW -->", of these rows) and '
        '"<!-- end study NAME -->"',
    )
    parser.add_argument('--debug', action='store_true', help='show tracebacks of expected errors')
    return parser.parse_args()


def main() -> int:
    """Run a study; 1 if a task has failed."""
    args = parse_args()
    with cli.report_errors(args.debug):
        out = Path(args.out).resolve()
        check_options(args, out)
        if args.page_only:
            results = read_results(out)
            check_metric(results)
            if args.tables:
                write_tables(results, Path(args.tables))
            print(*write_page(results, out), sep='\n')
            return 0
        study = read_study(args.study, args.data_root)
        tasks, settings = plan(study, not args.delete_checkpoints)
        chosen = tasks
        if args.rows:
            chosen, settings = choose(tasks, settings, args.rows)
        if args.dry_run:
            board = Board(out, chosen)
            print(*forecast(board, settings, args.jobs or 1, not args.delete_checkpoints), sep='\n')
            return 0
        cli.check_writable(str(out))
        with folder_lock(out, 'study', LOCK_PATIENCE, 'Or choose another --out.'):
            check_name(study.name, out)
            check_begun(tasks, out)
            return run(study, tasks, Board(out, chosen), args)


def check_options(args: argparse.Namespace, out: Path) -> None:
    """Raise a ConfigError for options that can't be used, or not together."""
    if args.page_only and args.rows:
        raise ConfigError('--rows says what is trained, and --page-only trains nothing.')
    if args.page_only and args.dry_run:
        raise ConfigError(
            '--page-only writes the page, and --dry-run does nothing: give one of them.'
        )
    if args.tables and not args.page_only:
        raise ConfigError(f'--tables {args.tables} expects --page-only.')
    if args.sbatch and args.launcher != 'slurm':
        raise ConfigError(f'--sbatch={args.sbatch} expects --launcher slurm.')
    try:
        shlex.split(args.sbatch)
    except ValueError as error:
        raise ConfigError(f'--sbatch={args.sbatch}: {error}.') from error
    if not args.page_only and any(mark in str(out) for mark in ',[('):
        raise ConfigError(
            f'--out {out}: with a comma or a bracket in it, --cfg-options would read a list. Choose a '
            'folder without them.'
        )


def run(study: Study, tasks: list[Task], board: Board, args: argparse.Namespace) -> int:
    """Run what is still to be done of a board, and write results of all tasks, and the page."""
    out = board.out
    bar = StudyBar(board, args.jobs or 1)
    arrays = Arrays(out, shlex.split(args.sbatch), args.jobs)
    written: set[str] = set()

    def report() -> None:
        bar()
        if (ended := board.done | board.failed.keys()) != written:
            written.update(ended)
            write_results(study, tasks, board.failed, out)

    with ExitStack() as stack:
        stack.callback(bar.close)
        try:
            if args.launcher == 'slurm':
                run_on_slurm(board, arrays, report)
            else:
                run_here(board, args.jobs or 1, report)
        except Stopped as stop:
            state = 'what was running is saved'
            if args.launcher == 'slurm':
                state = f'jobs continue (to end them: scancel --name={arrays.names()})'
            print(f'\n{stop}: {state}; the same command continues.', file=sys.stderr)
            return 128 + stop.number
        finally:
            for task in (board.tasks[name] for name in board.done):
                if task.kind == 'train' and not task.keep_checkpoints:
                    remove_checkpoints(task.folder(out))
            results = write_results(study, tasks, board.failed, out)
            write_page(results, out)
    for name, reason in board.failed.items():
        print(f'failed: {name}: {reason}', file=sys.stderr)
    check_metric(results)
    print(f'results: {out / "results.json"}\npage:    {out / "page.html"}')
    return 1 if board.failed else 0


if __name__ == '__main__':
    sys.exit(main())
