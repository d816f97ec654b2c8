"""Two processes under NCCL's rules: the whole training command, from the launch to a preemption."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as torch_dist
from command_line import ROOT, arguments, environment, recording_config, write_images
from forked import forked, program
from mmengine import dist
from slurm_cluster import free_ports
from training_probes import read_losses

from simulated_cuda.collectives import BrokenRuleError, nccl_rules
from simulated_cuda.device import SimulatedCuda

WORKER = Path(__file__).with_name('rank_worker.py')
HOOK = """
    dict(type='mmkdlayer.KDMetricsHook', interval=3),
    dict(type='mmkdlayer.CheckFiniteHook', interval=3),
    dict(type='EMAHook'),
    dict(type='WriteEvents'),
    dict(type='SendSignal', name='SIGTERM', iteration=8, rank=1),
"""


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[SimulatedCuda]:
    """One process in a group of its own, under NCCL's rules."""
    with SimulatedCuda() as cuda, nccl_rules(cuda, tmp_path / 'ledger') as ledger:
        torch_dist.init_process_group(
            'nccl', init_method=f'file://{tmp_path}/meet', rank=0, world_size=1
        )
        try:
            yield cuda
        finally:
            torch_dist.destroy_process_group()
            ledger.file.close()


def test_what_nccl_refuses(alone: SimulatedCuda) -> None:
    x = torch.ones(4, 6, device='cuda')
    with pytest.raises(BrokenRuleError, match='before'):
        torch_dist.all_reduce(x)
    torch.cuda.set_device(0)
    torch_dist.all_reduce(x)
    torch_dist.broadcast(x > 0, 0)
    for wrong in (torch.ones(3), x.t(), x[:, ::2], x.short()):
        with pytest.raises(BrokenRuleError):
            torch_dist.all_reduce(wrong)
    group = torch_dist.new_group(backend='gloo')
    assert dist.get_comm_device(group).type == 'cpu'
    assert dist.get_comm_device() == torch.device('cuda', 0)
    torch_dist.all_reduce(torch.ones(3), group=group)
    with pytest.raises(BrokenRuleError, match='gloo'):
        torch_dist.all_reduce(x, group=group)


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes that are preempted in the second epoch."""
    folder = tmp_path_factory.mktemp('ranks')
    data = write_images(folder / 'data', train=16)  # six batches of two times 4
    config = recording_config(folder, hook=HOOK)
    [port] = free_ports(1)
    line = arguments(
        config,
        '--work-dir',
        folder / 'work',
        '--launcher',
        'pytorch',
        data=data,
        train_dataloader__batch_size=4,
        train_cfg__max_epochs=2,
    )
    env = dict(environment(), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    env['PYTHONPATH'] += f'{os.pathsep}{ROOT / "tools"}'
    ended = forked(*(program(WORKER, [folder, rank, *line], env) for rank in range(2)))
    assert [code for code, _, _ in ended] == [75, 75], '\n'.join(e[-3000:] for _, _, e in ended)
    return folder


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_collectives_are_in_the_same_order_on_all_ranks(trained: Path) -> None:
    first, second = (lines(trained / f'collectives.{rank}.jsonl') for rank in range(2))
    assert first == second
    assert first[0] == ['init_process_group', 'nccl']
    assert ['new_group', 'gloo'] in first
    kinds = {(entry[0], entry[1]) for entry in first if len(entry) == 3}
    assert ('allreduce_', 'nccl') in kinds
    assert ('allreduce_', 'gloo') in kinds  # the vote


def test_a_step_that_is_not_measured_is_free(trained: Path) -> None:
    for rank in range(2):
        events = json.loads((trained / f'events.{rank}.json').read_text())
        assert len(events) == 9
        assert not [event for step in events.values() for event in step if event[0] == 'mix']
        for step in ('1', '4', '7'):  # every third one is measured; that is noted with the next one
            assert events[step] == []
        assert [event for event in events['3'] if event[0] == 'sync']


def test_it_is_saved_by_the_first_process(trained: Path) -> None:
    assert (trained / 'work' / 'interrupted.pth').exists()
    assert len(read_losses(trained / 'work', ranks=2)) == 9
