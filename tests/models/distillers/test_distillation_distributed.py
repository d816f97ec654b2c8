"""Distillation in two processes of DistributedDataParallel, with gloo on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')

TWO_PROCESSES = """
import copy, multiprocessing, sys
import torch
import torch.distributed as dist
from importlib.util import module_from_spec, spec_from_file_location
from mmengine.model import MMDistributedDataParallel
from mmkdlayer.models.connectors import memory_efficient

spec = spec_from_file_location('shared', sys.argv[1])
shared = module_from_spec(spec)
spec.loader.exec_module(shared)
torch.set_num_threads(1)
memory_efficient.MIN_SCORES = 0  # the memory-efficient way in tiny networks too


def gradients(model, root):
    return {n: p.grad for n, p in root.named_parameters() if p.requires_grad}


def total(losses):
    return sum(value for name, value in losses.items() if 'loss' in name)


def work(rank, folder):
    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    model = shared.build_distillation(seed=rank)  # DDP sends the first rank's weights
    model.teacher.load_state_dict(shared.build_distillation(seed=0).teacher.state_dict())
    model.eval()
    wrapped = MMDistributedDataParallel(model, device_ids=None, find_unused_parameters=False)
    inputs, samples = shared.random_batch(6)
    part = slice(3 * rank, 3 * rank + 3)
    for _ in range(2):  # the second pass raises where a parameter had no gradient in the first
        model.zero_grad()
        total(wrapped(inputs[part], samples[part], mode='loss')).backward()
    torch.save(gradients(model, model), f'{folder}/{rank}.pth')
    dist.destroy_process_group()


if __name__ == '__main__':
    folder = sys.argv[2]
    fork = multiprocessing.get_context('fork')
    workers = [fork.Process(target=work, args=(rank, folder)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    model = shared.build_distillation(seed=0)
    model.eval()
    total(model(*shared.random_batch(6), mode='loss')).backward()
    expected = gradients(model, model)
    assert any('kd_layers' in name for name in expected)
    for rank in range(2):
        found = torch.load(f'{folder}/{rank}.pth', weights_only=True)
        assert set(found) == set(expected)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-4, msg=name)
    print('equal')
"""


def test_two_processes_have_the_gradients_of_one_on_the_joint_batch(run_forked, tmp_path):
    if not torch.distributed.is_available():
        pytest.skip('this torch was built without torch.distributed')
    shared = Path(__file__).parents[2] / 'conftest.py'
    assert run_forked(TWO_PROCESSES, str(shared), str(tmp_path)).endswith('equal\n')
