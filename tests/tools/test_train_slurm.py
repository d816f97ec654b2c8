"""Training under a real Slurm: tools/slurm_train.sh in batch jobs, which a signal requeues."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import ROOT, arguments, environment, recording_config, run, write_images
from slurm_cluster import slurm, wait_until
from training_probes import read_losses

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(os.geteuid() != 0, reason='only root can start Slurm'),
]

# As in docs/clusters.md.
SCRIPT = """#!/bin/bash
#SBATCH --partition=debug --ntasks=2 --cpus-per-task=1
#SBATCH --requeue --open-mode=append
#SBATCH --output={folder}/output
export GPUS=2 GPUS_PER_NODE=0 CPUS_PER_TASK=1
bash {root}/tools/slurm_train.sh debug train {line}
code=$?
if [ "$code" -eq 75 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
"""


class Cluster:
    """Jobs on a Slurm of our own."""

    def __init__(self, variables: dict[str, str]) -> None:
        self.env = dict(environment(), **variables)

    def call(self, *command: str) -> str:
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, folder: Path, line: list[str]) -> str:
        folder.mkdir()
        script = folder / 'job.sh'
        quoted = ' '.join(f"'{word}'" for word in line)
        script.write_text(SCRIPT.format(folder=folder, root=ROOT, line=quoted))
        return re.findall(r'\d+', self.call('sbatch', str(script)))[-1]

    def state(self, job: str) -> str:
        return re.findall(r'JobState=(\w+)', self.call('scontrol', 'show', 'job', job))[0]

    def wait(self, job: str, folder: Path, seconds: float = 300) -> str:
        """Wait until a job has completed; what it printed."""
        ends = ('COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'NODE_FAIL')
        wait_until(lambda: self.state(job) in ends, seconds, f'job {job}')
        output = (folder / 'output').read_text()
        assert self.state(job) == 'COMPLETED', output[-5000:]
        return output


@pytest.fixture(scope='module')
def cluster() -> Iterator[Cluster]:
    with slurm() as variables:
        yield Cluster(variables)


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp('data'), train=16)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('runs')


@pytest.fixture(scope='module')
def config(folder: Path) -> Path:
    return recording_config(folder, "sync_bn = 'torch'")


@pytest.fixture(scope='module')
def expected(config: Path, data: Path, folder: Path) -> list[dict]:
    """What one process records on its own."""
    options = dict(data=data, train_dataloader__batch_size=4, train_cfg__max_epochs=2)
    run('train.py', arguments(config, '--work-dir', folder / 'alone', **options))
    return read_losses(folder / 'alone')


def test_two_tasks_equal_one_process_across_a_requeue(
    cluster: Cluster, config: Path, data: Path, folder: Path, expected: list[dict]
) -> None:
    job_folder = folder / 'job'
    line = arguments(
        config,
        '--work-dir',
        job_folder,
        '--resume',
        data=data,
        train_dataloader__batch_size=2,
        train_dataloader__num_workers=1,
        train_cfg__max_epochs=2,
    )
    job = cluster.submit(job_folder, line)
    losses = job_folder / 'losses.0.jsonl'
    wait_until(
        lambda: losses.exists() and losses.read_text().count('\n') >= 2, 180, 'the first iterations'
    )
    cluster.call('scancel', '--signal=USR1', job)
    output = cluster.wait(job, job_folder)
    found = read_losses(job_folder, ranks=2)
    assert re.search(r'SIGUSR1 received: saved \S+interrupted.pth after iteration', output), output
    assert re.search(r'Resuming in epoch 1 after \d+ of 12 iterations', output)
    assert len(found) == len(expected) == 24
    assert [line.pop('images') for line in found] == [line.pop('images') for line in expected]
    for ours, theirs in zip(found[:12], expected):  # the epoch of the requeue
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)
    assert not (job_folder / 'interrupted.pth').exists()
    assert (job_folder / 'epoch_2.pth').exists()
