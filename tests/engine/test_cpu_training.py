"""SyncBN on the CPU."""

from __future__ import annotations

from typing import Any, Callable

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkdlayer.engine.cpu_training import CpuSyncBatchNorm

TWO_PROCESSES = """
import multiprocessing, sys
import torch
import torch.distributed as dist
from torch import nn
from mmkdlayer.engine.cpu_training import CpuDistributedDataParallel

torch.set_num_threads(1)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 2, 3))


def data():
    # Ranks of different sizes: 1 and 3 images.
    return torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(1)) * 3 + 7


def results(model, root, loss):
    loss.backward()
    return [p.grad for p in root.parameters()] + [b.float() for b in root.buffers()]


def work(rank, folder):
    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    root = nn.SyncBatchNorm.convert_sync_batchnorm(network())
    model = CpuDistributedDataParallel(root, device_ids=None, broadcast_buffers=False)
    part = data()[:1] if rank == 0 else data()[1:]
    # DDP takes the mean over the ranks: twice their sums is the sum over all images.
    torch.save(results(model, root, 2 * model(part).square().sum()), f'{folder}/{rank}.pth')
    dist.destroy_process_group()


if __name__ == '__main__':
    folder = sys.argv[1]
    fork = multiprocessing.get_context('fork')
    workers = [fork.Process(target=work, args=(rank, folder)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    model = network()
    expected = results(model, model, model(data()).square().sum())
    for rank in range(2):
        for found, value in zip(torch.load(f'{folder}/{rank}.pth'), expected):
            torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-4)
    print('equal')
"""


def test_sync_batch_norm_of_two_processes_equals_one_on_the_joint_batch(
    run_forked: Callable[..., str], tmp_path: Any
) -> None:
    assert run_forked(TWO_PROCESSES, str(tmp_path)).endswith('equal\n')


@pytest.mark.parametrize('momentum', [0.1, None])
@pytest.mark.parametrize('training', [True, False])
def test_sync_batch_norm_alone_is_a_batch_norm(training: bool, momentum: float | None) -> None:
    plain, ours = (nn.BatchNorm2d(3, momentum=momentum) for _ in range(2))
    ours.__class__ = CpuSyncBatchNorm  # type: ignore[assignment]
    for norm in (plain, ours):
        norm.train()
        norm(torch.arange(24.0).view(2, 3, 2, 2))
        norm.train(training)
    x = torch.randn(4, 3, 2, 5)
    torch.testing.assert_close(ours(x), plain(x))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    assert isinstance(ours, _BatchNorm)
