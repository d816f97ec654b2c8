"""A few trials in each run of the tests; more of them among the slow ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from faults.results import ResultsFile, table
from faults.trial import Result


def run(out: Path, *options: object) -> tuple[int, str]:
    """The harness in a process of its own: it forks, which a process with threads must not."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name('run.py')), '--out', str(out)]
        + [str(option) for option in options],
        capture_output=True,
        text=True,
        timeout=1800,
    )
    return done.returncode, done.stdout + done.stderr


def test_kills_leave_no_fault(tmp_path: Path) -> None:
    kinds = ['kill -9 in training', 'kill -9 in fitting']
    code, output = run(tmp_path, '--trials', 2, '--seed', 1, '--kinds', *kinds)
    assert code == 0, output
    results = json.loads((tmp_path / 'results.json').read_text())['results']
    assert [result['outcome'] for result in results] == ['survived'] * 2


def test_what_is_stored_does_not_depend_on_kills_or_processes(tmp_path: Path) -> None:
    kinds = ['kill -9 in storing', 'storing by several']
    code, output = run(tmp_path, '--trials', 2, '--seed', 4, '--kinds', *kinds)
    assert code == 0, output
    results = json.loads((tmp_path / 'results.json').read_text())['results']
    assert len(results) == 2
    assert {'storing by several', 'kill -9 in storing'} == {result['kind'] for result in results}


@pytest.mark.slow
def test_thirty_kills_leave_equal_bytes(tmp_path: Path) -> None:
    code, output = run(tmp_path, '--trials', 30, '--seed', 3, '--kinds', 'kill -9 in storing')
    assert code == 0, output


def test_results_are_kept_for_the_same_seed(tmp_path: Path) -> None:
    path = tmp_path / 'results.json'
    first = ResultsFile(path, seed=0)
    first.add(Result(3, 'kill', 'train', 'fault', ['a reason']))
    first.add(Result(1, 'kill', 'train'))
    assert ResultsFile(path, seed=0).results == first.results
    with pytest.raises(SystemExit, match='another seed'):
        ResultsFile(path, seed=1)
    assert '| kill              |     2 |        1 |       0 |      1 |' in table(
        first.results.values()
    )


@pytest.mark.slow
def test_no_injection_leaves_a_fault(tmp_path: Path) -> None:
    code, output = run(tmp_path, '--trials', 100, '--seed', 2)
    assert code == 0, output
