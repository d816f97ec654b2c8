"""What the shell scripts refuse, and what they start."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest
from command_line import ROOT

TRAIN = ('slurm_train.sh', 'gpu', 'job', 'CONFIG')


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with programs that only print how they were started."""
    for name in ('srun', 'python'):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        program.chmod(0o755)
    return tmp_path


def call(programs: Path, script: str, *line: str, **variables: str) -> subprocess.CompletedProcess:
    known = {'GPUS', 'GPUS_PER_NODE', 'CPUS_PER_TASK', 'MASTER_PORT', 'NNODES', 'PORT', 'NODE_RANK'}
    env = {name: value for name, value in os.environ.items() if name not in {*known, 'PYTHON'}}
    env.update(variables, PATH=f'{programs}{os.pathsep}{os.environ["PATH"]}')
    command = ['bash', str(ROOT / 'tools' / script), *line]
    return subprocess.run(command, capture_output=True, text=True, env=env)


NODES = dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='host')


@pytest.mark.parametrize(
    ('line', 'variables', 'words'),
    [
        (TRAIN, dict(GPUS_PER_NODE='8x'), 'GPUS_PER_NODE must be .* at least 0, but is "8x"'),
        (TRAIN, dict(GPUS_PER_NODE='-1'), 'GPUS_PER_NODE'),
        (TRAIN, dict(GPUS_PER_NODE='08'), 'GPUS_PER_NODE'),
        (TRAIN, dict(GPUS='0'), 'GPUS must be .* at least 1, but is "0"'),
        (TRAIN, dict(GPUS='eight'), 'GPUS '),
        (TRAIN, dict(CPUS_PER_TASK='5G'), 'CPUS_PER_TASK'),
        (TRAIN, dict(MASTER_PORT='70000'), 'MASTER_PORT must be .* at most 65535, but is "70000"'),
        (('slurm_test.sh', 'gpu', 'job', 'C', 'P'), dict(GPUS='2.5'), 'GPUS '),
        (('dist_train.sh', 'CONFIG', '0'), {}, 'GPUS must be'),
        (('dist_train.sh', '8', 'CONFIG'), {}, 'GPUS must be .* but is "CONFIG"'),
        (('dist_test.sh', 'CONFIG', 'FILE', '--out'), {}, 'GPUS must be .* but is "--out"'),
        (('dist_train.sh', 'CONFIG', '2'), dict(NNODES='a[$(echo no >&2)0]'), 'NNODES must be'),
        (('dist_train.sh', 'CONFIG', '2'), dict(NODES, NODE_RANK='2'), 'NODE_RANK .* at most 1'),
        (('dist_train.sh', 'CONFIG', '2'), dict(NODES, PORT='http'), 'PORT must be'),
        (('torchrun.sh', '2'), {}, 'Usage: bash tools/torchrun.sh GPUS SCRIPT'),
        (('slurm_run.sh', 'gpu'), {}, 'Usage: bash tools/slurm_run.sh PARTITION JOB_NAME SCRIPT'),
    ],
)
def test_wrong_numbers_are_refused(
    line: tuple[str, ...], variables: dict[str, str], words: str, programs: Path
) -> None:
    done = call(programs, *line, **variables)
    assert done.returncode == 2
    assert done.stdout == ''
    assert re.search(words, done.stderr) and len(done.stderr.splitlines()) <= 2


def test_a_port_that_is_taken(programs: Path) -> None:
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        nodes = dict(NODES, NODE_RANK='0', PORT=port)
        done = call(programs, 'dist_train.sh', 'CONFIG', '2', **nodes)
        assert done.returncode == 2
        assert done.stderr.startswith(f'error: port {port} is taken on this machine')
    done = call(programs, 'dist_train.sh', 'CONFIG', '2', **nodes)
    assert f'--master_port {port}' in done.stdout


def test_what_is_started(programs: Path) -> None:
    done = call(programs, *TRAIN, GPUS='16', GPUS_PER_NODE='8', MASTER_PORT='29501')
    assert '--ntasks=16 --gres=gpu:8 --ntasks-per-node=8 --cpus-per-task=5' in done.stdout
    done = call(programs, *TRAIN, GPUS='2', GPUS_PER_NODE='0')
    assert '--ntasks=2 --cpus-per-task=5' in done.stdout
    done = call(programs, 'dist_train.sh', 'CONFIG', '2')
    assert 'python -m torch.distributed.run --standalone --nproc_per_node 2' in done.stdout
    done = call(programs, 'dist_train.sh', 'CONFIG', '2', **NODES)
    where = '--nnodes 2 --node_rank 1 --master_addr host --master_port 29500 --nproc_per_node 2'
    assert where in done.stdout
