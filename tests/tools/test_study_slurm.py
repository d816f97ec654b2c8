"""A study under a real Slurm: two jobs at once, and a killed command that finds its arrays again."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import environment, start
from slurm_cluster import slurm, wait_until
from study_runs import write_study

pytestmark = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.skipif(os.geteuid() != 0, reason='only root can start Slurm'),
]


@pytest.fixture(scope='module')
def env() -> Iterator[dict[str, str]]:
    with slurm() as variables:
        yield dict(environment(), **variables)


def jobs(env: dict[str, str], states: str = 'all') -> list[str]:
    """Name and number in its array of each job."""
    line = ['squeue', '--noheader', '--array', f'--states={states}', '-o', '%j/%K']
    return subprocess.run(line, env=env, capture_output=True, text=True, check=True).stdout.split()


def test_a_study_goes_on_under_slurm(env: dict[str, str], images: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    path = write_study(tmp_path, images)
    path.write_text(
        path.read_text().replace(
            "    alone=dict(config='alone.py',",
            "    bad=dict(config='alone.py', cfg_options={'optim_wrapper.optimizer.lr': 1e30}),\n"
            "    alone=dict(config='alone.py',",
        )
    )
    line = [str(path), '--out', str(out), '--launcher', 'slurm', '--jobs', '2']
    line += ['--sbatch=--partition=debug --cpus-per-task=1']
    process = start('study.py', line, env, fork=False)
    wait_until(lambda: len(jobs(env, 'running')) == 2, 180, 'two jobs at once')
    process.kill()
    process.communicate()
    assert jobs(env)  # they go on

    process = start('study.py', line, env, fork=False)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 1, output[-4000:]
    assert 'failed: runs/bad/seed0: loss is ' in output
    results = json.loads((out / 'results.json').read_text())
    assert {run['name'] for run in results['runs']} == {
        f'runs/{row}/seed{seed}' for row in ('alone', 'letkd2') for seed in (0, 1)
    }
    assert {failed['name'] for failed in results['failed']} == {'runs/bad/seed0', 'runs/bad/seed1'}
    assert all(run['attempts'] == 1 for run in results['runs'])  # none was submitted again
